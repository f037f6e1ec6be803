/* One SMTP dialogue as the sink leads it: octets in, replies out. It knows nothing of sockets, TLS or time. */
#ifndef DIALOGUE_H
#define DIALOGUE_H

#include <stdbool.h>
#include <stddef.h>

enum phase { COMMANDS, HEADER, BODY, DAMAGED };
enum wish { GO_ON, START_TLS, HANG_UP };

struct dialogue {
    enum phase phase;
    bool offers_tls, encrypted;
    char sender[256], recipient[256];
    int recipients;
    /* A command or a line of the header that has not come whole yet. */
    char line[1024];
    size_t line_length;
    char header[16384];
    int header_length;
    /* The first line of the body and how far the body has been compared, in octets on the wire. */
    char id_line[160];
    size_t id_length, compared, pattern_length;
    const char *pattern;
    /* The last octets of a damaged message, to find its end. */
    char tail[5];
};

void dialogue_begin(struct dialogue *it, bool offers_tls);

/*
 * Takes in octets and appends replies with `reply(context, text)`. Returns what is wanted next; after START_TLS and
 * HANG_UP the octets that are left are not looked at: what follows STARTTLS in the clear is worth nothing (RFC 3207 §4.2).
 */
enum wish dialogue_feed(struct dialogue *it, const char *octets, size_t count,
                        void (*reply)(void *context, const char *text), void *context);

#endif
