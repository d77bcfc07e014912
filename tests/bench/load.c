/*
 * A load generator for servers that speak ZooKeeper's client protocol.
 *
 *     cc -O2 -o load load.c && ./load --hosts 127.0.0.1:2181 --mode get --connections 16
 *
 * One thread, one epoll set.  A run: make the key znodes (a session of its own), open the load's
 * sessions, warm up, measure, wait for what is in flight, close, print one line of JSON, remove
 * every znode that was made.  `--help` names the options.
 *
 * Closed loop: each connection has `--depth` requests in flight, and sends the next when one is
 * answered.  A server that stalls is asked less, so a stall costs few samples.  Open loop (--rate):
 * requests are due at fixed times, whatever became of those before them, and latency counts from
 * the time a request was due.  In both, latencies are those of requests due (or sent) within the
 * window, whenever they are answered; throughput counts the answers that came within it.
 */
#define _GNU_SOURCE
#include <endian.h>
#include <errno.h>
#include <inttypes.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

typedef int64_t nanos;
#define MS ((nanos)1000000)
#define SECOND ((nanos)1000000000)

enum { OP_CREATE = 1, OP_DELETE = 2, OP_GET = 4, OP_SET = 5, OP_SYNC = 9, OP_PING = 11, OP_CLOSE = -11 };
enum { XID_EVENT = -1, XID_PING = -2, NO_NODE = -101, ALL_PERMISSIONS = 31 };
enum { FRAME_MAX = 64 << 20, DIALS_AT_ONCE = 64, SETUP_BATCH = 200, PATIENCE_S = 60, DRAIN_S = 20, HOSTS_MAX = 64 };

static void die(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));
static int status_of_failure = 2; /* once there is a report: the report's */

static void die(const char *format, ...) {
    va_list values;
    va_start(values, format);
    fputs("load: ", stderr);
    vfprintf(stderr, format, values);
    fputc('\n', stderr);
    exit(status_of_failure);
}

static nanos clock_of(clockid_t id) {
    struct timespec at;
    clock_gettime(id, &at);
    return at.tv_sec * SECOND + at.tv_nsec;
}

/* ---- options ---------------------------------------------------------------------------- */

enum mode { GET, SET, MIX, CREATE, CONNECT, WATCH, QUANTILES, MODES };
static const char *const mode_names[MODES] = {"get", "set", "mix", "create", "connect", "watch", "quantiles"};

static struct {
    const char *hosts, *mode, *existing;
    double connections, depth, rate, keys, value_size, seconds, warmup, write_percent, timeout_ms, timeline, seed;
} opt = {.mode = "get", .connections = 1, .depth = 0, .keys = 1000, .value_size = 100, .seconds = 5,
         .warmup = 1, .write_percent = 10, .timeout_ms = 30000, .seed = 1};

static const struct { const char *name; const char **text; double *number; double least, most; const char *help; } options[] = {
    {"--hosts", &opt.hosts, NULL, 0, 0, "HOST:PORT,...; connections are spread over them by turns"},
    {"--mode", &opt.mode, NULL, 0, 0,
     "get, set, mix, create; connect (open a session and close it); watch (one znode, every\n"
     "connection watches it: from a set to the last event); quantiles (no server: of the\n"
     "nanoseconds on standard input).  Default get"},
    {"--connections", NULL, &opt.connections, 1, 60000, "sessions at a time (watch: the watchers).  Default 1"},
    {"--depth", NULL, &opt.depth, 1, 100000, "requests in flight on each, at most.  Default 1, with --rate 64"},
    {"--rate", NULL, &opt.rate, 0.1, 1e7, "requests a second in all, due at fixed times (open loop)"},
    {"--write-percent", NULL, &opt.write_percent, 0, 100, "share of setData in mix.  Default 10"},
    {"--keys", NULL, &opt.keys, 1, 1e8, "how many znodes get, set and mix choose from.  Default 1000"},
    {"--existing", &opt.existing, NULL, 0, 0, "use znodes that are there, PREFIX/0000/000 and on, a thousand in each"},
    {"--value-size", NULL, &opt.value_size, 0, 1 << 20, "bytes in each.  Default 100"},
    {"--seconds", NULL, &opt.seconds, 0.1, 1e6, "the window that is measured.  Default 5"},
    {"--warmup", NULL, &opt.warmup, 0, 1e6, "the same load before it.  Default 1"},
    {"--timeout-ms", NULL, &opt.timeout_ms, 100, 1e9, "session timeout to ask for.  Default 30000"},
    {"--timeline", NULL, &opt.timeline, 1, 1e6, "also tell answers and highest latency for each so many ms"},
    {"--seed", NULL, &opt.seed, 0, 1e15, "of the choice of keys.  Default 1"},
};
enum { OPTIONS = sizeof options / sizeof *options };
static enum mode mode;
static unsigned n_conns, depth, n_keys;

static void usage(void) {
    printf("usage: load --hosts HOST:PORT[,...] [OPTION VALUE]...\n\n");
    for (int i = 0; i < OPTIONS; i++) {
        printf("  %s\n      ", options[i].name);
        for (const char *c = options[i].help; *c; c++) *c == '\n' ? printf("\n      ") : putchar(*c);
        putchar('\n');
    }
    exit(0);
}

static void set_option(const char *name, const char *value) {
    for (int i = 0; i < OPTIONS; i++) {
        if (strcmp(options[i].name, name)) continue;
        if (!value) die("%s needs a value", name);
        if (options[i].text) { *options[i].text = value; return; }
        char *end;
        double number = strtod(value, &end);
        if (*end || end == value || !(number >= options[i].least && number <= options[i].most))
            die("%s: '%s' is not a number from %g to %g", name, value, options[i].least, options[i].most);
        *options[i].number = number;
        return;
    }
    die("no option '%s'; see --help", name);
}

static void parse(int argc, char **argv) {
    for (int i = 1; i < argc; i += 2) {
        if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h")) usage();
        set_option(argv[i], i + 1 < argc ? argv[i + 1] : NULL);
    }
    while (mode < MODES && strcmp(mode_names[mode], opt.mode)) mode++;
    if (mode == MODES) die("no mode '%s'; see --help", opt.mode);
    if (mode == QUANTILES) return;
    if (!opt.hosts) die("--hosts is missing");
    if (opt.rate && (mode == CONNECT || mode == WATCH)) die("--rate goes with get, set, mix and create");
    if (opt.existing && strlen(opt.existing) > 200) die("--existing: too long");
    n_conns = opt.connections + (mode == WATCH); /* the last one writes */
    depth = opt.depth ? opt.depth : opt.rate ? 64 : 1;
    n_keys = mode == WATCH ? 1 : opt.keys;
}

/* ---- latencies --------------------------------------------------------------------------- */

/* Log-linear: below 2^SUB_BITS ns exact, above that 2^SUB_BITS buckets to each power of two. */
enum { SUB_BITS = 8, SUB = 1 << SUB_BITS, POWERS = 44 - SUB_BITS };
static uint64_t histogram[(POWERS + 1) * SUB], samples;
static nanos highest;

static unsigned bucket_of(uint64_t ns) {
    if (ns < SUB) return ns;
    int shift = 63 - __builtin_clzll(ns) - SUB_BITS;
    return shift < POWERS ? (shift + 1) * SUB + (unsigned)(ns >> shift) - SUB : (POWERS + 1) * SUB - 1;
}

static nanos upper_edge(unsigned bucket) {
    if (bucket < SUB) return bucket;
    int shift = bucket / SUB - 1;
    return ((nanos)(bucket % SUB + SUB + 1) << shift) - 1;
}

static void add_sample(nanos ns) {
    histogram[bucket_of(ns < 0 ? 0 : ns)]++;
    samples++;
    if (ns > highest) highest = ns;
}

/* What so many of 10,000 samples do not exceed: the upper edge of its bucket, at most the maximum. */
static double quantile_us(unsigned per_10000) {
    uint64_t rank = (samples * per_10000 + 9999) / 10000, seen = 0;
    if (!samples) return 0;
    unsigned at = 0;
    while ((seen += histogram[at]) < rank) at++;
    nanos edge = upper_edge(at);
    return (edge < highest ? edge : highest) / 1e3;
}

static void print_latencies(void) {
    printf("\"latency_us\":{\"samples\":%" PRIu64 ",\"p50\":%.1f,\"p95\":%.1f,\"p99\":%.1f,\"p999\":%.1f,\"max\":%.1f}",
           samples, quantile_us(5000), quantile_us(9500), quantile_us(9900), quantile_us(9990), highest / 1e3);
}

static int print_quantiles_of_input(void) {
    nanos ns;
    while (scanf("%" SCNd64, &ns) == 1) add_sample(ns);
    putchar('{');
    print_latencies();
    puts("}");
    return 0;
}

/* ---- bytes ------------------------------------------------------------------------------- */

struct bytes { char *at; size_t start, end, size; };

static void *more(struct bytes *b, size_t count) {
    if (b->start && b->start == b->end) b->start = b->end = 0;
    if (b->end + count > b->size && b->start) {
        memmove(b->at, b->at + b->start, b->end - b->start);
        b->end -= b->start;
        b->start = 0;
    }
    if (b->end + count > b->size) {
        b->size = (b->end + count) * 2;
        if (!(b->at = realloc(b->at, b->size))) die("out of memory");
    }
    return b->at + b->end;
}

static void put(struct bytes *b, const void *from, size_t count) {
    memcpy(more(b, count), from, count);
    b->end += count;
}
static void put32(struct bytes *b, int32_t value) { uint32_t wire = htobe32(value); put(b, &wire, 4); }
static void put64(struct bytes *b, int64_t value) { uint64_t wire = htobe64(value); put(b, &wire, 8); }
static void put_text(struct bytes *b, const char *text) {
    put32(b, strlen(text));
    put(b, text, strlen(text));
}
static int32_t get32(const char *at) { uint32_t wire; memcpy(&wire, at, 4); return be32toh(wire); }

/* A frame's length comes before it and is known behind it.  Of a buffer whose start may move. */
static size_t open_frame(struct bytes *b) { put32(b, 0); return b->end - b->start; }
static void close_frame(struct bytes *b, size_t from) {
    uint32_t wire = htobe32(b->end - b->start - from);
    memcpy(b->at + b->start + from - 4, &wire, 4);
}

static void put_hello(struct bytes *b) {
    size_t frame = open_frame(b);
    char password[16] = {0};
    put32(b, 0);
    put64(b, 0); /* no zxid seen */
    put32(b, opt.timeout_ms);
    put64(b, 0); /* a new session */
    put32(b, sizeof password);
    put(b, password, sizeof password);
    put(b, "", 1); /* not read-only */
    close_frame(b, frame);
}

static char *value;

static void put_request(struct bytes *b, int32_t xid, int op, const char *path, bool watch) {
    size_t frame = open_frame(b);
    put32(b, xid);
    put32(b, op);
    if (path) put_text(b, path);
    if (op == OP_GET) put(b, watch ? "\1" : "", 1);
    if (op == OP_SET || op == OP_CREATE) {
        put32(b, opt.value_size);
        put(b, value, opt.value_size);
    }
    if (op == OP_SET || op == OP_DELETE) put32(b, -1); /* any version */
    if (op == OP_CREATE) {
        put32(b, 1);
        put32(b, ALL_PERMISSIONS);
        put_text(b, "world");
        put_text(b, "anyone");
        put32(b, 0); /* persistent */
    }
    close_frame(b, frame);
}

/* Whole frame at the start of what came in, or NULL. */
static const char *next_frame(struct bytes *b, size_t *length) {
    if (b->end - b->start < 4) return NULL;
    *length = (uint32_t)get32(b->at + b->start);
    if (*length > FRAME_MAX) die("an answer of %zu bytes: not this protocol", *length);
    if (b->end - b->start < 4 + *length) return NULL;
    const char *frame = b->at + b->start + 4;
    b->start += 4 + *length;
    return frame;
}

/* ---- hosts ------------------------------------------------------------------------------- */

static struct { struct sockaddr_storage address; socklen_t length; } hosts[HOSTS_MAX];
static unsigned n_hosts;

static void add_host(char *text) {
    char *colon = strrchr(text, ':');
    struct addrinfo wanted = {.ai_socktype = SOCK_STREAM}, *found;
    if (!colon) die("--hosts: '%s' has no port", text);
    *colon = 0;
    int error = getaddrinfo(text, colon + 1, &wanted, &found);
    if (error) die("--hosts: %s: %s", text, gai_strerror(error));
    if (n_hosts == HOSTS_MAX) die("--hosts: at most %d", HOSTS_MAX);
    memcpy(&hosts[n_hosts].address, found->ai_addr, found->ai_addrlen);
    hosts[n_hosts++].length = found->ai_addrlen;
    freeaddrinfo(found);
}

static int open_socket(unsigned host, int flags, bool *connected) {
    int one = 1, fd = socket(hosts[host].address.ss_family, SOCK_STREAM | flags, 0);
    if (fd < 0) die("socket: %s", strerror(errno));
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    *connected = !connect(fd, (struct sockaddr *)&hosts[host].address, hosts[host].length);
    if (*connected || errno == EINPROGRESS) return fd;
    close(fd);
    return -1;
}

/* ---- set-up and removal: a blocking session of its own -------------------------------------- */

static struct { int fd; int32_t xid; struct bytes in, out; } worker;

static void work_flush(void) {
    while (worker.out.start < worker.out.end) {
        ssize_t n = send(worker.fd, worker.out.at + worker.out.start, worker.out.end - worker.out.start, MSG_NOSIGNAL);
        if (n < 0) die("set-up: %s", strerror(errno));
        worker.out.start += n;
    }
}

static const char *work_read(size_t *length) {
    const char *frame;
    while (!(frame = next_frame(&worker.in, length))) {
        ssize_t n = recv(worker.fd, more(&worker.in, 65536), 65536, 0);
        if (n <= 0) die("set-up: the server %s", n ? "does not answer" : "closed the connection");
        worker.in.end += n;
    }
    return frame;
}

static void work_open(void) {
    struct timeval patience = {PATIENCE_S, 0};
    bool connected;
    size_t length;
    worker.fd = open_socket(0, 0, &connected);
    if (worker.fd < 0) die("cannot connect to the first host: %s", strerror(errno));
    setsockopt(worker.fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    put_hello(&worker.out);
    work_flush();
    if (get32(work_read(&length) + 4) <= 0) die("the first host opens no session");
}

/* Send what is queued, read as many answers; an error other than `allowed` ends the run. */
static void work_finish(unsigned count, int allowed) {
    size_t length;
    work_flush();
    while (count--) {
        int error = get32(work_read(&length) + 12);
        if (error && error != allowed) die("set-up: a request met error %d", error);
    }
}

static void work_close(void) {
    put_request(&worker.out, ++worker.xid, OP_CLOSE, NULL, false);
    work_finish(1, 0);
    close(worker.fd);
    worker.in = worker.out = (struct bytes){0};
}

static char root[64]; /* of everything that this run makes */

static const char *key_path(unsigned key) {
    static char path[256];
    if (opt.existing)
        snprintf(path, sizeof path, "%s/%04u/%03u", opt.existing, key / 1000, key % 1000);
    else
        snprintf(path, sizeof path, "%s/k%08u", root, key);
    return path;
}

static const char *made_path(unsigned conn, uint64_t number) {
    static char path[128];
    snprintf(path, sizeof path, "%s/c%u-%" PRIu64, root, conn, number);
    return path;
}

static void work(int op, const char *path) {
    static unsigned queued;
    if (path) put_request(&worker.out, ++worker.xid, op, path, false), queued++;
    if (queued < SETUP_BATCH && path) return;
    work_finish(queued, op == OP_DELETE ? NO_NODE : 0);
    queued = 0;
}

static bool needs_root(void) { return mode == CREATE || (mode != CONNECT && !opt.existing); }
static bool makes_keys(void) { return needs_root() && mode != CREATE; }

static void make_znodes(void) {
    if (!needs_root()) return;
    work_open();
    work(OP_CREATE, root);
    for (unsigned key = 0; makes_keys() && key < n_keys; key++) work(OP_CREATE, key_path(key));
    work(OP_CREATE, NULL);
    work_close();
}

/* ---- the load's connections ------------------------------------------------------------------ */

enum state { LOST, DIALING, GREETING, SYNCING, READY, CLOSING };
struct asked { nanos due; int32_t xid; int op; bool arms; };

struct conn {
    unsigned number;
    int fd;
    enum state state;
    bool polls_out, pinging, armed;
    int32_t xid;
    struct asked *ring; /* in flight, oldest at `first` */
    unsigned first, count;
    struct bytes in, out;
    nanos begun, spoke, ping_every;
    uint64_t made, released, taken; /* znodes created; open loop: due, and of those sent */
    uint64_t dice;
};

static struct conn *conns;
static unsigned ring_size, dialed, dialing, open_now;
static int poller, timer;
static nanos now, window_from, window_to, stop_sending, next_tick;
static uint64_t ops, errors, wrong, disconnects, connect_failures, unanswered, missed, released;
static uint64_t error_codes[256];
static bool running;

static struct { uint64_t ops; nanos highest; } *timeline;
static unsigned timeline_slots;

static bool in_window(nanos at) { return window_from && at >= window_from && at < window_to; }

static void note_timeline(nanos due, nanos latency) {
    unsigned slot = (due - window_from) / (nanos)(opt.timeline * MS);
    if (slot >= timeline_slots) return;
    timeline[slot].ops++;
    if (latency > timeline[slot].highest) timeline[slot].highest = latency;
}

static void note_done(nanos due) {
    ops += in_window(now);
    if (!in_window(due)) return;
    add_sample(now - due);
    if (timeline) note_timeline(due, now - due);
}

static void note_error(nanos due, int code) {
    if (!in_window(due) && !in_window(now)) return;
    errors++;
    error_codes[code <= 0 && code > -256 ? -code : 255]++;
}

static uint64_t roll(struct conn *c) { /* xorshift64* */
    c->dice ^= c->dice >> 12, c->dice ^= c->dice << 25, c->dice ^= c->dice >> 27;
    return (c->dice * 0x2545F4914F6CDD1Dull) >> 32;
}

static void poll_for(struct conn *c, bool out) {
    struct epoll_event event = {.events = EPOLLIN | (out ? EPOLLOUT : 0), .data.ptr = c};
    if (out == c->polls_out) return;
    c->polls_out = out;
    epoll_ctl(poller, EPOLL_CTL_MOD, c->fd, &event);
}

static void hang_up(struct conn *c) {
    struct linger at_once = {1, 0}; /* no TIME_WAIT: `connect` would use up all ports */
    setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    close(c->fd);
    c->in.start = c->in.end = c->out.start = c->out.end = 0;
    dialing -= c->state == DIALING || c->state == GREETING || c->state == SYNCING;
    open_now--;
    c->state = LOST;
}

static nanos load_from;
static nanos due_at(uint64_t turn) { return load_from + (nanos)(turn * (SECOND / opt.rate)); }

/* What was asked, or was due, and gets no answer any more. */
static void give_up(struct conn *c) {
    for (; c->count; c->count--) unanswered += in_window(c->ring[(c->first + c->count - 1) % ring_size].due);
    for (; c->taken < c->released; c->taken++) missed += in_window(due_at(c->taken * n_conns + c->number));
}

static void lose(struct conn *c) {
    bool early = c->state == DIALING || c->state == GREETING;
    give_up(c);
    early ? connect_failures++ : disconnects++;
    hang_up(c);
    if (mode == WATCH) running = false; /* no round can end any more */
}

static void flush(struct conn *c) {
    while (c->out.start < c->out.end) {
        ssize_t n = send(c->fd, c->out.at + c->out.start, c->out.end - c->out.start, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && errno != EAGAIN) { lose(c); return; }
        if (n < 0) break;
        c->out.start += n;
    }
    poll_for(c, c->out.start < c->out.end);
}

static void ask(struct conn *c, int op, const char *path, nanos due, bool arms) {
    c->ring[(c->first + c->count++) % ring_size] = (struct asked){due, ++c->xid, op, arms};
    put_request(&c->out, c->xid, op, path, arms);
    c->spoke = now;
}

static void dial(struct conn *c) {
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT, .data.ptr = c};
    bool connected;
    c->begun = now;
    c->fd = open_socket(c->number % n_hosts, SOCK_NONBLOCK, &connected);
    if (c->fd < 0) { connect_failures++; return; } /* the next tick tries again */
    c->state = DIALING;
    c->polls_out = true;
    c->xid = c->first = c->count = c->pinging = c->armed = 0;
    dialing++, open_now++;
    epoll_ctl(poller, EPOLL_CTL_ADD, c->fd, &event);
}

static void dial_some(void) {
    while (dialed < n_conns && dialing < DIALS_AT_ONCE) dial(&conns[dialed++]);
}

static void say_hello(struct conn *c) {
    int error = 0;
    socklen_t size = sizeof error;
    getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &size);
    if (error) { lose(c); return; }
    c->state = GREETING;
    c->spoke = now;
    put_hello(&c->out);
}

/* ---- what a load asks for ------------------------------------------------------------------- */

static void ask_next(struct conn *c, nanos due) {
    bool writes = mode == SET || (mode == MIX && roll(c) % 10000 < opt.write_percent * 100);
    if (mode == CREATE)
        ask(c, OP_CREATE, made_path(c->number, c->made++), due, false);
    else
        ask(c, writes ? OP_SET : OP_GET, key_path(roll(c) % n_keys), due, false);
}

static void pump(struct conn *c) {
    if (c->state != READY || mode == CONNECT || mode == WATCH || !load_from) return;
    if (opt.rate)
        for (; c->taken < c->released && c->count < depth; c->taken++) ask_next(c, due_at(c->taken * n_conns + c->number));
    else
        while (running && c->count < depth) ask_next(c, now);
}

/* Open loop: hand each request whose time has come to its connection; set the clock for the next. */
static void release_due(void) {
    for (; running && due_at(released) <= now && due_at(released) < stop_sending; released++) {
        struct conn *c = &conns[released % n_conns];
        c->released++;
        pump(c);
        if (c->state == LOST) give_up(c);
        else if (!c->polls_out) flush(c);
    }
    nanos at = due_at(released);
    struct itimerspec when = {.it_value = {at / SECOND, at % SECOND}};
    timerfd_settime(timer, TFD_TIMER_ABSTIME, &when, NULL);
}

/* One round: every watcher has a watch; one set; every watcher gets its event.  Only then do they
 * watch again, so that this does not hold up the events. */
static struct { unsigned armed, fired; bool open; nanos begun; } round_;
static unsigned watchers(void) { return n_conns - 1; }

static void maybe_start_round(void) {
    struct conn *writer = &conns[watchers()];
    if (!running || !load_from || round_.open || round_.armed < watchers() || writer->count > 1) return;
    round_.open = true, round_.fired = 0, round_.begun = now;
    ask(writer, OP_SET, key_path(0), now, false);
    flush(writer);
}

static void watch_again(struct conn *c) {
    if (c->state != READY) return;
    ask(c, OP_GET, key_path(0), now, true);
    flush(c);
}

static void on_event(struct conn *c) {
    if (!c->armed) { wrong++; return; }
    c->armed = false;
    round_.armed--;
    if (++round_.fired < watchers()) return;
    round_.open = false;
    note_done(round_.begun);
    for (unsigned i = 0; i < watchers(); i++) watch_again(&conns[i]);
}

/* ---- what comes back ------------------------------------------------------------------------ */

static void become_ready(struct conn *c) {
    c->state = READY;
    dialing--;
    dial_some();
    if (mode == WATCH && c->number < watchers()) watch_again(c);
}

static void on_greeting(struct conn *c, const char *frame, size_t length) {
    if (length < 36 || get32(frame + 4) <= 0) { lose(c); return; }
    c->ping_every = get32(frame + 4) * MS / 3;
    if (mode == CONNECT) {
        dialing--;
        c->state = CLOSING;
        ask(c, OP_CLOSE, NULL, c->begun, false);
    } else { /* what the other session made is to be seen here */
        c->state = SYNCING;
        ask(c, OP_SYNC, "/", now, false);
    }
}

static void on_closed(struct conn *c, nanos begun) {
    hang_up(c);
    if (mode != CONNECT) return;
    note_done(begun);
    if (running) dial(c);
}

static void check_value(const char *frame, size_t length) {
    wrong += length < 20 || get32(frame + 16) != (int32_t)opt.value_size;
}

static void on_answer(struct conn *c, const char *frame, size_t length) {
    struct asked asked = c->ring[c->first];
    if (!c->count || asked.xid != get32(frame)) die("answer with xid %d, not in order", get32(frame));
    c->first = (c->first + 1) % ring_size;
    c->count--;
    int error = get32(frame + 12);
    if (asked.op == OP_CLOSE) { on_closed(c, asked.due); return; }
    if (error) note_error(asked.due, error);
    else if (asked.op == OP_GET) check_value(frame, length);
    if (asked.op == OP_SYNC) become_ready(c);
    else if (asked.arms) c->armed = true, round_.armed++;
    else if (!error && mode != WATCH) note_done(asked.due);
}

static void on_frame(struct conn *c, const char *frame, size_t length) {
    if (c->state == GREETING) { on_greeting(c, frame, length); return; }
    if (length < 16) die("an answer of %zu bytes: not this protocol", length);
    int32_t xid = get32(frame);
    if (xid == XID_PING) c->pinging = false;
    else if (xid == XID_EVENT) on_event(c);
    else on_answer(c, frame, length);
}

static void read_some(struct conn *c) {
    ssize_t n = recv(c->fd, more(&c->in, 65536), 65536, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (n <= 0) { lose(c); return; }
    c->in.end += n;
    now = clock_of(CLOCK_MONOTONIC);
    size_t length;
    const char *frame;
    while (c->state > DIALING && (frame = next_frame(&c->in, &length))) on_frame(c, frame, length);
    pump(c);
}

static void on_ready(struct conn *c, uint32_t events) {
    if (c->state == DIALING && events & (EPOLLOUT | EPOLLERR | EPOLLHUP)) say_hello(c);
    else if (c->state > DIALING && events & (EPOLLIN | EPOLLERR | EPOLLHUP)) read_some(c);
    if (c->state > DIALING) flush(c);
}

/* ---- the loop ----------------------------------------------------------------------------- */

static void tick(void) {
    next_tick = now + 20 * MS;
    for (unsigned i = 0; i < dialed; i++) {
        struct conn *c = &conns[i];
        if (c->state == READY && !c->pinging && now - c->spoke > c->ping_every) {
            c->pinging = true;
            c->spoke = now;
            put_request(&c->out, XID_PING, OP_PING, NULL, false);
            flush(c);
        } else if (c->state == LOST && running && mode == CONNECT)
            dial(c);
    }
}

static void turn(nanos until) {
    struct epoll_event events[256];
    nanos wait = (until < next_tick ? until : next_tick) - now;
    int count = epoll_wait(poller, events, 256, wait > 0 ? (wait + MS - 1) / MS : 0);
    now = clock_of(CLOCK_MONOTONIC);
    for (int i = 0; i < count; i++) {
        if (events[i].data.ptr) { on_ready(events[i].data.ptr, events[i].events); continue; }
        uint64_t expired;
        if (read(timer, &expired, sizeof expired) < 0 && errno != EAGAIN) die("timer: %s", strerror(errno));
    }
    if (opt.rate && load_from) release_due();
    if (mode == WATCH) maybe_start_round();
    if (now >= next_tick) tick();
}

static unsigned ready_count(void) {
    unsigned count = 0;
    for (unsigned i = 0; i < n_conns; i++) count += conns[i].state == READY;
    return count;
}

static void open_all(void) {
    nanos until = now + PATIENCE_S * SECOND;
    if (mode == CONNECT) return;
    dial_some();
    while (ready_count() < n_conns) {
        if (connect_failures || disconnects || now > until)
            die("only %u of %u sessions could be opened", ready_count(), n_conns);
        turn(now + 20 * MS);
    }
    while (mode == WATCH && round_.armed < watchers() && now < until) turn(until);
}

static bool busy(void) {
    for (unsigned i = 0; i < n_conns; i++)
        if (conns[i].state != LOST && (conns[i].count || conns[i].taken < conns[i].released || conns[i].state != READY)) return true;
    return mode == WATCH && round_.open && running;
}

static nanos cpu_used;

static void load(void) {
    running = true;
    load_from = now;
    window_from = now + (nanos)(opt.warmup * SECOND);
    window_to = stop_sending = window_from + (nanos)(opt.seconds * SECOND);
    if (mode == CONNECT) dialed = n_conns;
    for (unsigned i = 0; i < n_conns; i++) {
        if (mode == CONNECT) dial(&conns[i]);
        pump(&conns[i]);
        if (conns[i].state == READY) flush(&conns[i]);
    }
    while (running && now < window_from) turn(window_from);
    cpu_used = -clock_of(CLOCK_PROCESS_CPUTIME_ID);
    while (running && now < window_to) turn(window_to);
    cpu_used += clock_of(CLOCK_PROCESS_CPUTIME_ID);
    if (window_to > now) window_to = now; /* a watcher was lost */
    running = false;
    for (nanos until = now + DRAIN_S * SECOND; busy() && now < until;) turn(until);
}

static void close_all(void) {
    for (unsigned i = 0; i < n_conns; i++) {
        struct conn *c = &conns[i];
        if (c->state != READY) continue;
        if (c->count) { lose(c); continue; } /* it did not answer in all that time */
        c->state = CLOSING;
        ask(c, OP_CLOSE, NULL, now, false);
        flush(c);
    }
    for (nanos until = now + DRAIN_S * SECOND; open_now && now < until;) turn(until);
}

static void remove_znodes(void) {
    if (!needs_root()) return;
    work_open();
    for (unsigned i = 0; i < n_conns; i++)
        for (uint64_t number = 0; number < conns[i].made; number++) work(OP_DELETE, made_path(i, number));
    for (unsigned key = 0; makes_keys() && key < n_keys; key++) work(OP_DELETE, key_path(key));
    work(OP_DELETE, NULL);
    work(OP_DELETE, root);
    work(OP_DELETE, NULL);
    work_close();
}

/* ---- the report --------------------------------------------------------------------------- */

static void print_error_codes(void) {
    const char *comma = "";
    printf("\"error_codes\":{");
    for (int code = 0; code < 256; code++)
        if (error_codes[code]) {
            printf("%s\"%d\":%" PRIu64, comma, -code, error_codes[code]);
            comma = ",";
        }
    printf("},");
}

static void print_timeline(void) {
    printf(",\"timeline\":{\"ms\":%g,\"ops\":[", opt.timeline);
    for (unsigned i = 0; i < timeline_slots; i++) printf("%s%" PRIu64, i ? "," : "", timeline[i].ops);
    printf("],\"max_us\":[");
    for (unsigned i = 0; i < timeline_slots; i++) printf("%s%.1f", i ? "," : "", timeline[i].highest / 1e3);
    printf("]}");
}

static void print_report(void) {
    double seconds = (window_to - window_from) / 1e9;
    printf("{\"mode\":\"%s\",\"connections\":%u,\"depth\":%u,\"rate\":%g,\"hosts\":%u,", opt.mode,
           mode == WATCH ? watchers() : n_conns, depth, opt.rate, n_hosts);
    printf("\"seconds\":%.3f,\"ops\":%" PRIu64 ",\"ops_per_s\":%.1f,", seconds, ops, seconds > 0 ? ops / seconds : 0);
    printf("\"errors\":%" PRIu64 ",\"wrong\":%" PRIu64 ",\"disconnects\":%" PRIu64 ",\"connect_failures\":%" PRIu64
           ",\"unanswered\":%" PRIu64 ",\"missed\":%" PRIu64 ",",
           errors, wrong, disconnects, connect_failures, unanswered, missed);
    print_error_codes();
    printf("\"cpu_s\":%.2f,", cpu_used / 1e9);
    print_latencies();
    if (timeline) print_timeline();
    puts("}");
}

static void prepare(void) {
    struct rlimit files;
    struct epoll_event event = {.events = EPOLLIN};
    char *list = strdup(opt.hosts), *rest = list;
    for (char *host; (host = strsep(&rest, ","));) add_host(host);
    free(list);
    if (!getrlimit(RLIMIT_NOFILE, &files)) files.rlim_cur = files.rlim_max, setrlimit(RLIMIT_NOFILE, &files);
    poller = epoll_create1(0);
    timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    epoll_ctl(poller, EPOLL_CTL_ADD, timer, &event);
    snprintf(root, sizeof root, "/load-%d-%" PRIx64, (int)getpid(), (uint64_t)clock_of(CLOCK_REALTIME));
    value = malloc(opt.value_size + 1);
    memset(value, 'v', opt.value_size + 1);
    ring_size = depth + 4;
    conns = calloc(n_conns, sizeof *conns);
    for (unsigned i = 0; i < n_conns; i++) {
        conns[i].number = i;
        conns[i].ring = calloc(ring_size, sizeof *conns[i].ring);
        conns[i].dice = ((uint64_t)opt.seed * n_conns + i + 1) * 0x9E3779B97F4A7C15ull;
    }
    timeline_slots = opt.timeline ? (opt.seconds * 1000 + opt.timeline - 1) / opt.timeline : 0;
    timeline = timeline_slots ? calloc(timeline_slots, sizeof *timeline) : NULL;
}

int main(int argc, char **argv) {
    parse(argc, argv);
    if (mode == QUANTILES) return print_quantiles_of_input();
    prepare();
    make_znodes();
    now = clock_of(CLOCK_MONOTONIC);
    open_all();
    load();
    close_all();
    print_report();
    status_of_failure = samples ? 0 : 1;
    remove_znodes();
    return status_of_failure;
}
