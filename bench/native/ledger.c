#define _GNU_SOURCE
#include "ledger.h"

#include <stdlib.h>
#include <sys/resource.h>

#include "message.h"

struct counts counts;

static char run[48] = "";
static long expected;
static uint8_t *seen;
/* Microseconds from being sent to being here, of every message that is counted as unique. */
static uint32_t *delays;
static int64_t first, last;
static double cpu_before;

static double cpu_ms(void) {
    struct rusage use;
    getrusage(RUSAGE_SELF, &use);
    return (double)(use.ru_utime.tv_sec + use.ru_stime.tv_sec) * 1000 +
           (double)(use.ru_utime.tv_usec + use.ru_stime.tv_usec) / 1000;
}

bool ledger_reset(const char *name, long messages) {
    long open = counts.open;
    free(seen);
    free(delays);
    seen = calloc((size_t)messages, 1);
    delays = calloc((size_t)messages, sizeof *delays);
    snprintf(run, sizeof run, "%s", name);
    expected = seen != NULL && delays != NULL ? messages : 0;
    counts = (struct counts){.open = open, .most_open = open};
    first = last = 0;
    cpu_before = cpu_ms();
    return expected == messages;
}

bool facts_in(const char *header, int length, struct facts *facts) {
    const char *mark = memmem(header, (size_t)length, "\r\n" MARK, strlen("\r\n" MARK));
    char line[300];
    long long sent;
    if (mark == NULL) return false;
    mark += strlen("\r\n" MARK);
    const char *end = memchr(mark, '\r', (size_t)(header + length - mark));
    if (end == NULL || (size_t)(end - mark) >= sizeof line) return false;
    memcpy(line, mark, (size_t)(end - mark));
    line[end - mark] = 0;
    if (sscanf(line, "%47s %ld %ld %lld %127s", facts->run, &facts->number, &facts->body, &sent, facts->domain) != 5)
        return false;
    facts->sent = sent;
    return facts->number >= 0 && facts->body >= 0;
}

void ledger_enter(const struct arrival *it) {
    struct facts facts;
    if (!facts_in(it->header, it->header_length, &facts) || strcmp(facts.run, run) != 0 || facts.number >= expected) {
        counts.strays++;
        return;
    }
    /* Hosts on the way put lines on top. Below them must be what the client sent, and nothing between. */
    char header[HEADER_ROOM], recipient[256];
    int length = header_of(&facts, header, sizeof header);
    const char *tail = it->header + it->header_length - length;
    bool whole = it->intact && it->header_length >= length && (tail == it->header || tail[-1] == '\n') &&
                 memcmp(tail, header, (size_t)length) == 0;
    recipient_of(&facts, recipient, sizeof recipient);
    bool addressed = it->recipients == 1 && strcmp(it->sender, SENDER) == 0 && strcmp(it->recipient, recipient) == 0;

    if (!whole) counts.damaged++;
    if (!addressed) counts.misaddressed++;
    if (!it->encrypted) counts.in_clear++;
    if (!whole || !addressed || !it->encrypted) return;
    if (seen[facts.number]) {
        counts.duplicates++;
        return;
    }
    seen[facts.number] = 1;
    last = now();
    if (first == 0) first = last;
    delays[counts.unique++] = (uint32_t)((last - facts.sent) / 1000);
}

void ledger_print(void) {
    qsort(delays, (size_t)counts.unique, sizeof *delays, by_value);
    printf("{\"unique\":%ld,\"duplicates\":%ld,\"damaged\":%ld,\"misaddressed\":%ld,\"inClear\":%ld,\"strays\":%ld,"
           "\"connections\":%ld,\"handshakes\":%ld,\"resumed\":%ld,\"broken\":%ld,\"mostOpen\":%ld,"
           "\"firstNs\":%lld,\"lastNs\":%lld,\"p50Ms\":%.2f,\"p99Ms\":%.2f,\"cpuMs\":%.1f}\n",
           counts.unique, counts.duplicates, counts.damaged, counts.misaddressed, counts.in_clear, counts.strays,
           counts.connections, counts.handshakes, counts.resumed, counts.broken, counts.most_open, (long long)first,
           (long long)last, quantile(delays, (size_t)counts.unique, 0.5),
           quantile(delays, (size_t)counts.unique, 0.99), cpu_ms() - cpu_before);
}
