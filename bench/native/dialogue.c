#include "dialogue.h"

#include <stdlib.h>
#include <strings.h>

#include "ledger.h"
#include "message.h"

/* The pattern of the size that is being sent, kept from message to message: a run has one size. */
static char *pattern;
static size_t pattern_length;
static long pattern_body = -1;

static bool prepare_pattern(long body) {
    if (body == pattern_body) return true;
    if (body > 100000000) return false;
    char *room = realloc(pattern, pattern_room((size_t)body) + sizeof END_OF_DATA);
    if (room == NULL) return false;
    pattern = room;
    pattern_body = body;
    pattern_length = pattern_of((size_t)body, pattern);
    memcpy(pattern + pattern_length, END_OF_DATA, strlen(END_OF_DATA));
    pattern_length += strlen(END_OF_DATA);
    return true;
}

void dialogue_begin(struct dialogue *it, bool offers_tls) {
    memset(it, 0, offsetof(struct dialogue, line));
    it->line_length = 0;
    it->offers_tls = offers_tls;
}

/* The address between the angle brackets. */
static void address_in(const char *line, char *room, size_t size) {
    const char *from = strchr(line, '<');
    const char *to = from == NULL ? NULL : strchr(from, '>');
    if (to == NULL) room[0] = 0;
    else snprintf(room, size, "%.*s", (int)(to - from - 1), from + 1);
}

static bool begins(const char *line, const char *word) { return strncasecmp(line, word, strlen(word)) == 0; }

static const char *command(struct dialogue *it, const char *line, enum wish *wish) {
    if (begins(line, "EHLO") || begins(line, "HELO")) {
        return it->offers_tls && !it->encrypted
                   ? "250-sink\r\n250-PIPELINING\r\n250-SIZE 104857600\r\n250-8BITMIME\r\n250-ENHANCEDSTATUSCODES\r\n250 STARTTLS\r\n"
                   : "250-sink\r\n250-PIPELINING\r\n250-SIZE 104857600\r\n250-8BITMIME\r\n250 ENHANCEDSTATUSCODES\r\n";
    }
    if (begins(line, "STARTTLS") && it->offers_tls && !it->encrypted) {
        *wish = START_TLS;
        return "220 2.0.0 go ahead\r\n";
    }
    if (begins(line, "MAIL FROM:")) {
        address_in(line, it->sender, sizeof it->sender);
        it->recipients = 0;
        return "250 2.1.0 ok\r\n";
    }
    if (begins(line, "RCPT TO:")) {
        address_in(line, it->recipient, sizeof it->recipient);
        it->recipients++;
        return "250 2.1.5 ok\r\n";
    }
    if (begins(line, "DATA")) {
        if (it->recipients == 0) return "503 5.5.1 no recipients\r\n";
        it->phase = HEADER;
        it->header_length = 0;
        return "354 go on\r\n";
    }
    if (begins(line, "RSET")) {
        it->recipients = 0;
        return "250 2.0.0 ok\r\n";
    }
    if (begins(line, "NOOP")) return "250 2.0.0 ok\r\n";
    if (begins(line, "QUIT")) {
        *wish = HANG_UP;
        return "221 2.0.0 bye\r\n";
    }
    return "502 5.5.2 unknown\r\n";
}

static const char *arrived(struct dialogue *it, bool intact) {
    struct arrival arrival = {.header = it->header,
                              .header_length = it->header_length,
                              .sender = it->sender,
                              .recipient = it->recipient,
                              .recipients = it->recipients,
                              .encrypted = it->encrypted,
                              .intact = intact};
    ledger_enter(&arrival);
    it->phase = COMMANDS;
    it->recipients = 0;
    return "250 2.0.0 taken\r\n";
}

/* What is not as expected is read on to its end, so that the dialogue can go on and the damage is counted once. */
static void now_damaged(struct dialogue *it) {
    it->phase = DAMAGED;
    memcpy(it->tail, "\0\0\0\r\n", sizeof it->tail);
}

/* One line of the header, its end included. */
static void header_line(struct dialogue *it, const char *line, size_t length) {
    if (length != 2) {
        if ((size_t)it->header_length + length > sizeof it->header) {
            now_damaged(it);
            return;
        }
        memcpy(it->header + it->header_length, line, length);
        it->header_length += (int)length;
        return;
    }
    struct facts facts;
    if (!facts_in(it->header, it->header_length, &facts) || !prepare_pattern(facts.body)) {
        now_damaged(it);
        return;
    }
    it->id_length = (size_t)id_line_of(&facts, it->id_line, sizeof it->id_line);
    it->pattern_length = pattern_length;
    it->compared = 0;
    it->phase = BODY;
}

/* Compares what has come with what should; returns how many octets were of this message. */
static size_t body(struct dialogue *it, const char *octets, size_t count) {
    bool in_id = it->compared < it->id_length;
    const char *expected = in_id ? it->id_line + it->compared : pattern + (it->compared - it->id_length);
    size_t left = in_id ? it->id_length - it->compared : it->id_length + it->pattern_length - it->compared;
    size_t take = count < left ? count : left;
    /* Another size began on another connection: the pattern is not there any more. */
    if (it->pattern_length != pattern_length || memcmp(octets, expected, take) != 0) {
        now_damaged(it);
        return 0;
    }
    it->compared += take;
    return take;
}

static size_t damaged(struct dialogue *it, const char *octets, size_t count, bool *ended) {
    for (size_t at = 0; at < count; at++) {
        memmove(it->tail, it->tail + 1, sizeof it->tail - 1);
        it->tail[4] = octets[at];
        if (memcmp(it->tail, "\r\n.\r\n", 5) == 0) {
            *ended = true;
            return at + 1;
        }
    }
    return count;
}

enum wish dialogue_feed(struct dialogue *it, const char *octets, size_t count,
                        void (*reply)(void *context, const char *text), void *context) {
    enum wish wish = GO_ON;
    while (count > 0 && wish == GO_ON) {
        size_t used = 0;
        if (it->phase == BODY) {
            used = body(it, octets, count);
            if (it->phase == BODY && it->compared == it->id_length + it->pattern_length) reply(context, arrived(it, true));
        } else if (it->phase == DAMAGED) {
            bool ended = false;
            used = damaged(it, octets, count, &ended);
            if (ended) reply(context, arrived(it, false));
        } else {
            const char *end = memchr(octets, '\n', count);
            used = end == NULL ? count : (size_t)(end - octets) + 1;
            if (it->line_length + used >= sizeof it->line) return HANG_UP;
            memcpy(it->line + it->line_length, octets, used);
            it->line_length += used;
            if (end != NULL) {
                size_t length = it->line_length;
                it->line_length = 0;
                it->line[length] = 0;
                if (it->phase == HEADER) header_line(it, it->line, length);
                else reply(context, command(it, it->line, &wish));
            }
        }
        octets += used;
        count -= used;
    }
    return wish;
}
