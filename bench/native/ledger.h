/* What arrived at the sink, counted: each message once, and everything that is wrong with any. */
#ifndef LEDGER_H
#define LEDGER_H

#include <stdbool.h>
#include <stdint.h>

struct arrival {
    const char *header;
    int header_length;
    const char *sender;
    const char *recipient;
    int recipients;
    bool encrypted;
    /* The body came octet for octet. */
    bool intact;
};

struct counts {
    long unique, duplicates, damaged, misaddressed, in_clear, strays;
    long connections, handshakes, resumed, broken, open, most_open;
};
extern struct counts counts;

/* Begins a new run: messages of any other are strays from now on. Returns false when there is no memory for it. */
bool ledger_reset(const char *run, long expected);
void ledger_enter(const struct arrival *it);
/* Prints the counts as one line of JSON. */
void ledger_print(void);

struct facts;
/* Reads the facts that a header carries. */
bool facts_in(const char *header, int length, struct facts *facts);

#endif
