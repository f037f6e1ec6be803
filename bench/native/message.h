/*
 * The test message: the one thing that load and sink must agree on.
 *
 * Everything in it follows from five values, which it carries in a header field. So the sink can make the message anew
 * and compare octets, which costs little and misses nothing: neither a lost dot nor two messages that were mixed up.
 */
#ifndef MESSAGE_H
#define MESSAGE_H

#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define SENDER "load@office.test"
#define MARK "X-Bench: "
#define END_OF_DATA ".\r\n"
/* Room for the header and for the first line of the body. */
#define HEADER_ROOM 2048
#define ID_ROOM 128

struct facts {
    char run[48];
    long number;
    /* Octets of the body after its first line, dots not doubled. */
    long body;
    /* When the client began to send it, on the clock of now(). */
    int64_t sent;
    char domain[128];
};

/* Nanoseconds on a clock that all processes of this machine share and nobody sets. */
static inline int64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

static inline void recipient_of(const struct facts *it, char *room, size_t size) {
    snprintf(room, size, "m%ld@%s", it->number, it->domain);
}

/* The header as the client sends it, without the empty line after it. Its length depends on the facts alone. */
static inline int header_of(const struct facts *it, char *room, size_t size) {
    return snprintf(room, size,
                    "From: Load <" SENDER ">\r\n"
                    "To: <m%ld@%s>\r\n"
                    "Subject: message %ld of a measurement\r\n"
                    "Date: Sun, 01 Nov 2026 10:00:00 +0000\r\n"
                    "Message-ID: <%s.%ld@office.test>\r\n" MARK "%s %ld %ld %020lld %s\r\n"
                    "MIME-Version: 1.0\r\n"
                    "Content-Type: text/plain; charset=us-ascii\r\n",
                    it->number, it->domain, it->number, it->run, it->number, it->run, it->number, it->body,
                    (long long)it->sent, it->domain);
}

/* The first line of the body, in which every message differs. */
static inline int id_line_of(const struct facts *it, char *room, size_t size) {
    return snprintf(room, size, "Number %ld of run %s for %s.\r\n", it->number, it->run, it->domain);
}

/* Octets that the rest of a body may take on the wire, with its dots doubled. */
static inline size_t pattern_room(size_t body) { return body + body / 64 + 128; }

/*
 * Writes the rest of a body of so many octets as it goes over the wire, and returns its length there. Lines are as long
 * as those of an attachment in base64; every seventh begins with a dot, which is doubled (RFC 5321 §4.5.2).
 */
static inline size_t pattern_of(size_t body, char *room) {
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    size_t made = 0, at = 0;
    for (unsigned line = 0; made < body; line++) {
        size_t left = body - made;
        /* Never one octet for the last line: its end alone has two. */
        size_t length = left <= 78 ? left : left == 79 ? 77 : 78;
        for (size_t column = 0; length > 2 && column < length - 2; column++) {
            if (column == 0 && line % 7 == 3) {
                room[at++] = '.';
                room[at++] = '.';
            } else {
                room[at++] = letters[(column * 11 + line * 5 + column * line) % 64];
            }
        }
        room[at++] = '\r';
        room[at++] = '\n';
        made += length < 2 ? 2 : length;
    }
    return at;
}

/* The value below which the share of the sorted values lies. */
static inline double quantile(const uint32_t *sorted, size_t count, double share) {
    return count == 0 ? 0 : sorted[(size_t)((double)(count - 1) * share)] / 1000.0;
}

static inline int by_value(const void *one, const void *other) {
    uint32_t a = *(const uint32_t *)one, b = *(const uint32_t *)other;
    return a < b ? -1 : a > b;
}

#endif
