/*
 * The near end of every measurement: the legacy mail server, many times over.
 *
 *   load --port PORT --run NAME --messages N --size OCTETS --sessions S --per-connection K
 *        (--domain NAME | --domains COUNT) [--rate PER_SECOND] [--seconds LIMIT]
 *
 * Each session is a thread that connects to 127.0.0.1, does STARTTLS and sends one message after the other, waiting for
 * every reply as old servers do. Message i goes to the domain given, or to d001.test, d002.test … in turn. A message is
 * sent until it has its 250; one whose last reply was lost is not sent again, because it may have been taken.
 * Prints one line of JSON.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "message.h"

/* What the message got for an answer. */
enum fate { TAKEN, LATER, REFUSED, LOST, NOT_SENT };

struct session {
    int fd;
    SSL *ssl;
    char text[4096];
    size_t length;
};

static struct {
    int port;
    const char *run, *domain;
    long messages, size, sessions, per_connection, domains, rate, seconds;
} plan = {.run = "run", .messages = 1, .size = 4096, .sessions = 1, .per_connection = 1, .seconds = 60};

static SSL_CTX *tls;
static char *pattern;
/* Made once for the longest body; of a shorter one nothing is ever needed, as all messages have one size. */
static size_t pattern_octets;
static long body_octets;
static int64_t started, deadline;
static atomic_long next, taken, later, refused, lost, connections, no_connection;
static _Atomic int64_t first_connect, last_taken;
static uint32_t *waits;

static void sleep_until(int64_t time) {
    struct timespec at = {.tv_sec = time / 1000000000, .tv_nsec = time % 1000000000};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL) == EINTR) continue;
}

static bool say(struct session *it, const char *octets, size_t length) {
    while (length > 0) {
        ssize_t gone = it->ssl == NULL ? send(it->fd, octets, length, MSG_NOSIGNAL) : SSL_write(it->ssl, octets, (int)length);
        if (gone <= 0) return false;
        octets += gone;
        length -= (size_t)gone;
    }
    return true;
}

/* The code of the next reply, or 0 when the connection has ended. */
static int hear(struct session *it) {
    for (;;) {
        char *end = memchr(it->text, '\n', it->length);
        if (end != NULL) {
            bool more = it->text[3] == '-';
            int code = atoi(it->text);
            it->length -= (size_t)(end - it->text) + 1;
            memmove(it->text, end + 1, it->length);
            if (!more) return code;
            continue;
        }
        size_t room = sizeof it->text - it->length;
        if (room == 0) return 0;
        ssize_t got = it->ssl == NULL ? recv(it->fd, it->text + it->length, room, 0)
                                      : SSL_read(it->ssl, it->text + it->length, (int)room);
        if (got <= 0) return 0;
        it->length += (size_t)got;
    }
}

static int ask(struct session *it, const char *line) { return say(it, line, strlen(line)) ? hear(it) : 0; }

static void leave(struct session *it) {
    if (it->ssl != NULL) SSL_free(it->ssl);
    if (it->fd >= 0) close(it->fd);
    *it = (struct session){.fd = -1};
    ERR_clear_error();
}

static bool come(struct session *it) {
    struct sockaddr_in place = {.sin_family = AF_INET,
                                .sin_port = htons((uint16_t)plan.port),
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct timeval patience = {.tv_sec = plan.seconds};
    int on = 1;
    int64_t none = 0;
    *it = (struct session){.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    if (it->fd < 0) return false;
    setsockopt(it->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(it->fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    atomic_compare_exchange_strong(&first_connect, &none, now());
    if (connect(it->fd, (struct sockaddr *)&place, sizeof place) != 0 || hear(it) != 220) return false;
    if (ask(it, "EHLO legacy.office.test\r\n") != 250 || ask(it, "STARTTLS\r\n") != 220) return false;
    it->ssl = SSL_new(tls);
    if (it->ssl == NULL || SSL_set_fd(it->ssl, it->fd) != 1 || SSL_connect(it->ssl) != 1) return false;
    connections++;
    return ask(it, "EHLO legacy.office.test\r\n") == 250;
}

static enum fate fate_of(int code, enum fate when_lost) {
    return code == 0 ? when_lost : code / 100 == 4 ? LATER : REFUSED;
}

/* The size of header and first line, with a body that makes the message as large as it shall be. */
static void facts_of(long number, struct facts *facts) {
    *facts = (struct facts){.number = number, .body = body_octets, .sent = now()};
    snprintf(facts->run, sizeof facts->run, "%s", plan.run);
    if (plan.domain != NULL) snprintf(facts->domain, sizeof facts->domain, "%s", plan.domain);
    else snprintf(facts->domain, sizeof facts->domain, "d%03ld.test", number % plan.domains + 1);
}

static enum fate post(struct session *it, long number, char *room) {
    struct facts facts;
    char line[512], recipient[256];
    int code = ask(it, "MAIL FROM:<" SENDER ">\r\n");
    if (code != 250) return fate_of(code, NOT_SENT);
    facts_of(number, &facts);
    recipient_of(&facts, recipient, sizeof recipient);
    snprintf(line, sizeof line, "RCPT TO:<%s>\r\n", recipient);
    if ((code = ask(it, line)) != 250) return fate_of(code, NOT_SENT);
    if ((code = ask(it, "DATA\r\n")) != 354) return fate_of(code, NOT_SENT);

    /* The time stamp is the last thing that is done before the octets leave. */
    facts.sent = now();
    size_t length = (size_t)header_of(&facts, room, HEADER_ROOM);
    memcpy(room + length, "\r\n", 2);
    length += 2;
    length += (size_t)id_line_of(&facts, room + length, ID_ROOM + sizeof facts.domain);
    memcpy(room + length, pattern, pattern_octets);
    length += pattern_octets;
    memcpy(room + length, END_OF_DATA, strlen(END_OF_DATA));
    length += strlen(END_OF_DATA);
    if (!say(it, room, length)) return LOST;
    code = hear(it);
    if (code != 250) return fate_of(code, LOST);
    int64_t ended = now();
    last_taken = ended;
    waits[taken++] = (uint32_t)((ended - facts.sent) / 1000);
    return TAKEN;
}

static void *run_session(void *nothing) {
    (void)nothing;
    struct session session = {.fd = -1};
    long sent_here = 0;
    char *room = malloc(HEADER_ROOM + ID_ROOM + sizeof(struct facts) + pattern_octets + 16);
    if (room == NULL) exit(1);
    for (long number; (number = next++) < plan.messages;) {
        if (plan.rate > 0) sleep_until(started + number * 1000000000 / plan.rate);
        for (;;) {
            if (now() > deadline) goto end;
            if (session.fd >= 0 && sent_here == plan.per_connection) {
                ask(&session, "QUIT\r\n");
                leave(&session);
            }
            if (session.fd < 0) {
                sent_here = 0;
                if (!come(&session)) {
                    no_connection++;
                    leave(&session);
                    sleep_until(now() + 50000000);
                    continue;
                }
            }
            enum fate fate = post(&session, number, room);
            sent_here++;
            if (fate == TAKEN) break;
            if (fate == LOST) lost++;
            if (fate == REFUSED) refused++;
            if (fate == LATER) later++;
            /* After anything but a 250 the dialogue begins anew. */
            leave(&session);
            if (fate == LOST || fate == REFUSED) break;
            sleep_until(now() + 50000000);
        }
    }
end:
    if (session.fd >= 0) ask(&session, "QUIT\r\n");
    leave(&session);
    free(room);
    return NULL;
}

static long number_of(const char *text, long least, long most, const char *name) {
    char *end;
    long value = strtol(text, &end, 10);
    if (*end == 0 && value >= least && value <= most) return value;
    fprintf(stderr, "load: --%s wants a number from %ld to %ld\n", name, least, most);
    exit(2);
}

static void read_plan(int count, char **words) {
    static const struct option options[] = {
        {"port", 1, NULL, 'p'},     {"run", 1, NULL, 'r'},    {"messages", 1, NULL, 'n'},
        {"size", 1, NULL, 'z'},     {"sessions", 1, NULL, 's'}, {"per-connection", 1, NULL, 'k'},
        {"domain", 1, NULL, 'd'},   {"domains", 1, NULL, 'D'}, {"rate", 1, NULL, 'R'},
        {"seconds", 1, NULL, 't'},  {NULL, 0, NULL, 0}};
    for (int option; (option = getopt_long(count, words, "", options, NULL)) != -1;) {
        switch (option) {
            case 'p': plan.port = (int)number_of(optarg, 1, 65535, "port"); break;
            case 'r': plan.run = optarg; break;
            case 'n': plan.messages = number_of(optarg, 1, 1000000, "messages"); break;
            case 'z': plan.size = number_of(optarg, 1024, 50000000, "size"); break;
            case 's': plan.sessions = number_of(optarg, 1, 500, "sessions"); break;
            case 'k': plan.per_connection = number_of(optarg, 1, 1000000, "per-connection"); break;
            case 'd': plan.domain = optarg; break;
            case 'D': plan.domains = number_of(optarg, 1, 999, "domains"); break;
            case 'R': plan.rate = number_of(optarg, 1, 100000, "rate"); break;
            case 't': plan.seconds = number_of(optarg, 1, 3600, "seconds"); break;
            default: exit(2);
        }
    }
    if (plan.port == 0 || (plan.domain == NULL) == (plan.domains == 0)) {
        fputs("load: --port and either --domain or --domains must be given\n", stderr);
        exit(2);
    }
}

int main(int count, char **words) {
    read_plan(count, words);
    signal(SIGPIPE, SIG_IGN);
    tls = SSL_CTX_new(TLS_client_method());
    if (tls == NULL) return 1;
    /* Which certificate a relay shows to its clients is not what is measured. */
    SSL_CTX_set_verify(tls, SSL_VERIFY_NONE, NULL);

    struct facts facts;
    char header[HEADER_ROOM];
    facts_of(plan.messages - 1, &facts);
    long around = header_of(&facts, header, sizeof header) + 2;
    around += id_line_of(&facts, header, sizeof header);
    body_octets = plan.size > around + 100 ? plan.size - around : 100;
    pattern = malloc(pattern_room((size_t)body_octets));
    waits = calloc((size_t)plan.messages, sizeof *waits);
    pthread_t *threads = calloc((size_t)plan.sessions, sizeof *threads);
    if (pattern == NULL || waits == NULL || threads == NULL) return 1;
    pattern_octets = pattern_of((size_t)body_octets, pattern);

    started = now();
    deadline = started + plan.seconds * 1000000000;
    pthread_attr_t small;
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, 256 * 1024);
    for (long at = 0; at < plan.sessions; at++)
        if (pthread_create(&threads[at], &small, run_session, NULL) != 0) return 1;
    for (long at = 0; at < plan.sessions; at++) pthread_join(threads[at], NULL);

    struct rusage use;
    getrusage(RUSAGE_SELF, &use);
    double cpu = (double)(use.ru_utime.tv_sec + use.ru_stime.tv_sec) * 1000 +
                 (double)(use.ru_utime.tv_usec + use.ru_stime.tv_usec) / 1000;
    qsort(waits, (size_t)taken, sizeof *waits, by_value);
    printf("{\"accepted\":%ld,\"later\":%ld,\"refused\":%ld,\"lost\":%ld,\"connections\":%ld,\"noConnection\":%ld,"
           "\"firstNs\":%lld,\"lastNs\":%lld,\"p50Ms\":%.2f,\"p99Ms\":%.2f,\"cpuMs\":%.1f}\n",
           (long)taken, (long)later, (long)refused, (long)lost, (long)connections, (long)no_connection,
           (long long)first_connect, (long long)last_taken, quantile(waits, (size_t)taken, 0.5),
           quantile(waits, (size_t)taken, 0.99), cpu);
    return 0;
}
