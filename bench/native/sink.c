/*
 * The far end of every measurement: all mail hosts of the lab in one process that does nothing but take mail and count.
 *
 *   sink PORT CERTIFICATE KEY <control
 *
 * Control comes on stdin, one command a line, answered with one line each:
 *   listen ADDRESS tls|clear    another host; `clear` offers no STARTTLS
 *   reset RUN MESSAGES          forget the counts and expect a new run
 *   delay MILLISECONDS          how long every reply waits, as if the host were far away
 *   count                       messages that have come, as a number
 *   stats                       all counts, as JSON
 * It ends with its stdin. One thread and epoll: the fewer processes beside the one that is measured, the better.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "dialogue.h"
#include "ledger.h"
#include "message.h"

enum kind { CONTROL, LISTENER, SESSION };

/* What epoll knows: the control pipe, a host's socket, or a connection to it. */
struct party {
    enum kind kind;
    int fd;
    bool offers_tls;
    SSL *ssl;
    bool greeted_tls, waits_to_write;
    enum wish after_replies;
    /* Replies: those up to `due` may go, those up to `sent` have gone. */
    char replies[8192];
    size_t length, due, sent;
    /* Grows when the connection ends, so that a reply that waits for it is not sent to the next one. */
    unsigned generation;
    struct party *next_free;
    struct dialogue dialogue;
};

/* A reply on its way; all take equally long, so the first in line is the first to go. */
struct waiting {
    struct party *party;
    unsigned generation;
    int64_t at;
    size_t up_to;
};

static int events;
static SSL_CTX *tls;
static struct party *unused;
static int64_t delay;
static int port;
static struct waiting *line;
static size_t line_room, line_first, line_count;

static void fail(const char *what) {
    fprintf(stderr, "sink: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void watch(struct party *party, uint32_t wanted, int how) {
    struct epoll_event event = {.events = wanted, .data.ptr = party};
    if (epoll_ctl(events, how, party->fd, &event) != 0) fail("epoll");
}

static void wait_in_line(struct waiting entry) {
    if (line_count == line_room) {
        size_t room = line_room == 0 ? 1024 : line_room * 2;
        struct waiting *longer = calloc(room, sizeof *longer);
        if (longer == NULL) fail("memory");
        for (size_t at = 0; at < line_count; at++) longer[at] = line[(line_first + at) % line_room];
        free(line);
        line = longer;
        line_room = room;
        line_first = 0;
    }
    line[(line_first + line_count++) % line_room] = entry;
}

static void hang_up(struct party *party) {
    if (party->ssl != NULL) {
        if (SSL_is_init_finished(party->ssl)) SSL_shutdown(party->ssl);
        SSL_free(party->ssl);
        party->ssl = NULL;
    }
    close(party->fd);
    counts.open--;
    party->generation++;
    party->next_free = unused;
    unused = party;
}

/* Sends what is due. Returns false when the connection has ended. */
static bool send_replies(struct party *party) {
    while (party->sent < party->due) {
        const char *from = party->replies + party->sent;
        size_t left = party->due - party->sent;
        ssize_t gone = party->ssl == NULL ? send(party->fd, from, left, MSG_NOSIGNAL)
                                          : SSL_write(party->ssl, from, (int)left);
        if (gone > 0) {
            party->sent += (size_t)gone;
            continue;
        }
        int error = party->ssl == NULL ? 0 : SSL_get_error(party->ssl, (int)gone);
        ERR_clear_error();
        if (party->ssl == NULL ? errno == EAGAIN : error == SSL_ERROR_WANT_WRITE || error == SSL_ERROR_WANT_READ) {
            if (!party->waits_to_write) watch(party, EPOLLIN | EPOLLOUT, EPOLL_CTL_MOD);
            party->waits_to_write = true;
            return true;
        }
        hang_up(party);
        return false;
    }
    if (party->waits_to_write) watch(party, EPOLLIN, EPOLL_CTL_MOD);
    party->waits_to_write = false;
    if (party->sent < party->length) return true;
    party->length = party->due = party->sent = 0;
    if (party->after_replies == HANG_UP) {
        hang_up(party);
        return false;
    }
    if (party->after_replies == START_TLS) {
        party->after_replies = GO_ON;
        party->ssl = SSL_new(tls);
        if (party->ssl == NULL || SSL_set_fd(party->ssl, party->fd) != 1) fail("TLS");
        SSL_set_accept_state(party->ssl);
        party->dialogue.encrypted = true;
    }
    return true;
}

static void reply(void *context, const char *text) {
    struct party *party = context;
    size_t length = strlen(text);
    if (party->length + length > sizeof party->replies) {
        party->after_replies = HANG_UP;
        return;
    }
    memcpy(party->replies + party->length, text, length);
    party->length += length;
    if (delay == 0) party->due = party->length;
    else wait_in_line((struct waiting){party, party->generation, now() + delay, party->length});
}

/* Reads what has come and answers it. */
static void converse(struct party *party) {
    static char octets[131072];
    for (;;) {
        /* STARTTLS or QUIT was said: nothing is read before the reply to it has gone. */
        if (party->after_replies != GO_ON) break;
        ssize_t got = party->ssl == NULL ? recv(party->fd, octets, sizeof octets, 0)
                                         : SSL_read(party->ssl, octets, sizeof octets);
        if (got <= 0) {
            int error = party->ssl == NULL ? 0 : SSL_get_error(party->ssl, (int)got);
            bool later = party->ssl == NULL ? got < 0 && errno == EAGAIN
                                            : error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE;
            ERR_clear_error();
            if (later) break;
            if (party->ssl != NULL && !party->greeted_tls) counts.broken++;
            hang_up(party);
            return;
        }
        if (party->ssl != NULL && !party->greeted_tls) {
            party->greeted_tls = true;
            counts.handshakes++;
            if (SSL_session_reused(party->ssl)) counts.resumed++;
        }
        enum wish wish = dialogue_feed(&party->dialogue, octets, (size_t)got, reply, party);
        if (wish != GO_ON) party->after_replies = wish;
        if (delay == 0 && !send_replies(party)) return;
    }
    if (party->waits_to_write) send_replies(party);
}

static void take_connection(struct party *listener) {
    for (;;) {
        int fd = accept4(listener->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) return;
        int on = 1;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        struct party *party = unused;
        if (party != NULL) unused = party->next_free;
        else if ((party = calloc(1, sizeof *party)) == NULL) fail("memory");
        party->kind = SESSION;
        party->fd = fd;
        party->greeted_tls = party->waits_to_write = false;
        party->after_replies = GO_ON;
        party->length = party->due = party->sent = 0;
        dialogue_begin(&party->dialogue, listener->offers_tls);
        counts.connections++;
        if (++counts.open > counts.most_open) counts.most_open = counts.open;
        watch(party, EPOLLIN, EPOLL_CTL_ADD);
        reply(party, "220 sink ESMTP\r\n");
        send_replies(party);
    }
}

/* Returns 0, or the error number of what did not work. */
static int listen_on(const char *address, bool offers_tls) {
    struct sockaddr_in place = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    if (inet_pton(AF_INET, address, &place.sin_addr) != 1 || ntohl(place.sin_addr.s_addr) >> 24 != 127) return EINVAL;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) return errno;
    int on = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, (struct sockaddr *)&place, sizeof place) != 0 || listen(fd, 1024) != 0) {
        int error = errno;
        close(fd);
        return error;
    }
    struct party *party = calloc(1, sizeof *party);
    if (party == NULL) fail("memory");
    *party = (struct party){.kind = LISTENER, .fd = fd, .offers_tls = offers_tls};
    watch(party, EPOLLIN, EPOLL_CTL_ADD);
    return 0;
}

static void obey(const char *text) {
    char word[64];
    long number;
    if (sscanf(text, "listen %63s tls", word) == 1) {
        int error = listen_on(word, strstr(text, " tls") != NULL);
        puts(error == 0 ? "ok" : strerrorname_np(error));
    } else if (sscanf(text, "reset %47s %ld", word, &number) == 2 && number > 0 && number <= 10000000) {
        puts(ledger_reset(word, number) ? "ok" : "ENOMEM");
    } else if (sscanf(text, "delay %ld", &number) == 1 && number >= 0) {
        delay = number * 1000000;
        puts("ok");
    } else if (strcmp(text, "count") == 0) {
        printf("%ld\n", counts.unique + counts.in_clear + counts.damaged + counts.misaddressed);
    } else if (strcmp(text, "stats") == 0) {
        ledger_print();
    } else {
        puts("EINVAL");
    }
    fflush(stdout);
}

static void take_orders(void) {
    static char text[4096];
    static size_t length;
    ssize_t got = read(STDIN_FILENO, text + length, sizeof text - length - 1);
    if (got <= 0) exit(0);
    length += (size_t)got;
    for (char *end; (end = memchr(text, '\n', length)) != NULL;) {
        *end = 0;
        obey(text);
        length -= (size_t)(end - text) + 1;
        memmove(text, end + 1, length);
    }
    if (length == sizeof text - 1) exit(2);
}

/* Lets the replies go whose time has come; returns how many milliseconds there are to the next, -1 for none. */
static int send_what_is_due(void) {
    while (line_count > 0) {
        struct waiting entry = line[line_first];
        int64_t left = entry.at - now();
        if (left > 0) return (int)((left + 999999) / 1000000);
        line_first = (line_first + 1) % line_room;
        line_count--;
        if (entry.generation != entry.party->generation) continue;
        entry.party->due = entry.up_to;
        bool was_asked = entry.party->after_replies != GO_ON;
        /* After STARTTLS the client may have begun to speak already. */
        if (send_replies(entry.party) && was_asked) converse(entry.party);
    }
    return -1;
}

int main(int count, char **words) {
    if (count != 4) {
        fputs("usage: sink PORT CERTIFICATE KEY\n", stderr);
        return 2;
    }
    port = atoi(words[1]);
    signal(SIGPIPE, SIG_IGN);
    tls = SSL_CTX_new(TLS_server_method());
    if (tls == NULL || SSL_CTX_use_certificate_chain_file(tls, words[2]) != 1 ||
        SSL_CTX_use_PrivateKey_file(tls, words[3], SSL_FILETYPE_PEM) != 1)
        fail("certificate");
    SSL_CTX_set_mode(tls, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS);
    if ((events = epoll_create1(EPOLL_CLOEXEC)) < 0) fail("epoll");
    struct party control = {.kind = CONTROL, .fd = STDIN_FILENO};
    watch(&control, EPOLLIN, EPOLL_CTL_ADD);
    ledger_reset("none", 1);

    for (;;) {
        struct epoll_event ready[256];
        int found = epoll_wait(events, ready, 256, send_what_is_due());
        if (found < 0 && errno != EINTR) fail("epoll");
        for (int at = 0; at < found; at++) {
            struct party *party = ready[at].data.ptr;
            if (party->kind == CONTROL) take_orders();
            else if (party->kind == LISTENER) take_connection(party);
            /* It has said QUIT. What comes now is its end, and it does not want the reply any more. */
            else if (party->after_replies == HANG_UP && !party->waits_to_write) hang_up(party);
            else converse(party);
        }
    }
}
