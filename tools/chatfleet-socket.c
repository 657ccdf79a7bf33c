/*
 * chatfleet-socket: keeps one listening TCP socket open while the shims that share it come and go.
 *
 * "hold" never accepts a connection: while no shim runs, clients wait in the kernel's queue. It
 * hands its descriptor (SCM_RIGHTS) to whoever connects to a unix socket of its user's. "exec"
 * fetches it and becomes the command, which finds it as systemd's socket activation leaves it.
 */
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum { LISTEN_FD = 3, BACKLOG = 4096, EXIT_USAGE = 64 };

static const char help[] =
    "Usage: chatfleet-socket hold UNIX_SOCKET ADDRESS PORT\n"
    "       chatfleet-socket exec UNIX_SOCKET COMMAND [ARG...]\n\n"
    "hold  listens on ADDRESS and PORT (0: a free one), prints the port and hands the listening\n"
    "      socket to whoever connects to UNIX_SOCKET (mode 0600), until SIGTERM.\n"
    "exec  fetches that socket and executes COMMAND with it as descriptor 3, LISTEN_FDS=1 and\n"
    "      LISTEN_PID set, as systemd's socket activation does.\n\n"
    "Exit codes: 0 after SIGTERM, 1 error, 64 usage, 126 or 127 COMMAND not executable or found.\n";

static volatile sig_atomic_t stopping;

__attribute__((format(printf, 2, 3), noreturn)) static void fail(int status, const char *fmt, ...)
{
    va_list ap;

    fputs("chatfleet-socket: ", stderr);
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputc('\n', stderr);
    exit(status);
}

static void on_stop(int signal_number)
{
    stopping = signal_number;
}

/* A new socket bound or connected (`act`) to `path`, or -1: then it is left open, at most twice. */
static int unix_socket(const char *path, int (*act)(int, const struct sockaddr *, socklen_t))
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd == -1 || strlen(path) >= sizeof(address.sun_path))
        fail(1, "%s: %s", path, fd == -1 ? strerror(errno) : "the path is too long");
    memcpy(address.sun_path, path, strlen(path) + 1);
    return act(fd, (const struct sockaddr *)&address, sizeof(address)) == 0 ? fd : -1;
}

/* Listen on the unix path. A socket that a dead keeper left there is replaced, nothing else is. */
static int unix_listen(const char *path)
{
    struct stat there;
    int fd;

    umask(0177);
    fd = unix_socket(path, bind);
    if (fd == -1 && errno == EADDRINUSE) {
        if (unix_socket(path, connect) != -1)
            fail(1, "%s: another keeper serves it", path);
        if (errno != ECONNREFUSED || lstat(path, &there) == -1 || !S_ISSOCK(there.st_mode))
            fail(1, "%s: in the way, and not a dead keeper's socket", path);
        unlink(path);
        fd = unix_socket(path, bind);
    }
    if (fd == -1 || listen(fd, BACKLOG) == -1)
        fail(1, "%s: cannot listen: %s", path, strerror(errno));
    return fd;
}

static int tcp_listen(const char *host, const char *port)
{
    struct addrinfo hints = {.ai_flags = AI_PASSIVE, .ai_socktype = SOCK_STREAM}, *found = NULL;
    const int on = 1;
    int error, fd;
    char *end;

    if (port[0] < '0' || port[0] > '9' || strtoul(port, &end, 10) > 65535 || *end)
        fail(EXIT_USAGE, "PORT is a number from 0 to 65535, not \"%s\"", port);
    error = getaddrinfo(host, port, &hints, &found);
    if (error)
        fail(1, "%s: no such address: %s", host, gai_strerror(error));
    fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd == -1 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) == -1 ||
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) == -1 ||
        bind(fd, found->ai_addr, found->ai_addrlen) == -1 || listen(fd, BACKLOG) == -1)
        fail(1, "cannot listen on %s port %s: %s", host, port, strerror(errno));
    freeaddrinfo(found);
    return fd;
}

static void print_port(int fd)
{
    struct sockaddr_storage address = {0};
    char port[NI_MAXSERV];

    getsockname(fd, (struct sockaddr *)&address, &(socklen_t){sizeof(address)});
    getnameinfo((struct sockaddr *)&address, sizeof(address), NULL, 0, port, sizeof(port),
                NI_NUMERICSERV);
    if (puts(port) == EOF || fflush(stdout) == EOF)
        fail(1, "the port cannot be printed: %s", strerror(errno));
}

/* Send the descriptor *fd beside one byte, or, with `receiving`, wait for one. 0 or -1. */
static int pass(int peer, int *fd, int receiving)
{
    _Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(*fd))] = {0};
    struct iovec iov = {.iov_base = &(char){0}, .iov_len = 1};
    struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};
    struct cmsghdr *header;

    message.msg_control = control;
    message.msg_controllen = sizeof(control);
    header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(*fd));
    memcpy(CMSG_DATA(header), fd, sizeof(*fd));
    if (!receiving)
        return sendmsg(peer, &message, MSG_NOSIGNAL | MSG_DONTWAIT) == 1 ? 0 : -1;
    if (recvmsg(peer, &message, MSG_CMSG_CLOEXEC) != 1 || message.msg_controllen == 0)
        return -1;
    memcpy(fd, CMSG_DATA(header), sizeof(*fd));
    return 0;
}

/* The signals are let in by ppoll alone, so that none falls between the test and the wait. */
static int hold(const char *path, const char *host, const char *port)
{
    const struct sigaction stop = {.sa_handler = on_stop};
    int fd = tcp_listen(host, port), client;
    struct pollfd door = {.fd = unix_listen(path), .events = POLLIN};
    sigset_t stops, before;

    sigemptyset(&stops);
    sigaddset(&stops, SIGTERM);
    sigaddset(&stops, SIGINT);
    sigprocmask(SIG_BLOCK, &stops, &before);
    sigaction(SIGTERM, &stop, NULL);
    sigaction(SIGINT, &stop, NULL);
    print_port(fd);
    while (!stopping) {
        if (ppoll(&door, 1, NULL, &before) != 1)
            continue;
        client = accept4(door.fd, NULL, NULL, SOCK_CLOEXEC);
        if (client != -1 && pass(client, &fd, 0) == -1)
            fprintf(stderr, "chatfleet-socket: hand-over failed: %s\n", strerror(errno));
        close(client);
    }
    unlink(path);
    return 0;
}

static int run(const char *path, char **command)
{
    int keeper = unix_socket(path, connect), fd = -1;
    char pid[16];

    if (keeper == -1)
        fail(1, "%s: no keeper there: %s", path, strerror(errno));
    if (pass(keeper, &fd, 1) == -1)
        fail(1, "%s: the keeper ended before it handed the socket over", path);
    if (dup2(fd, LISTEN_FD) == -1 || fcntl(LISTEN_FD, F_SETFD, 0) == -1)
        fail(1, "descriptor %d cannot be set: %s", LISTEN_FD, strerror(errno));
    snprintf(pid, sizeof(pid), "%d", (int)getpid());
    if (setenv("LISTEN_FDS", "1", 1) == -1 || setenv("LISTEN_PID", pid, 1) == -1)
        fail(1, "the environment cannot be set: %s", strerror(errno));
    unsetenv("LISTEN_FDNAMES");
    execvp(command[0], command);
    fail(errno == ENOENT ? 127 : 126, "%s: %s", command[0], strerror(errno));
}

int main(int argc, char **argv)
{
    if (argc == 5 && strcmp(argv[1], "hold") == 0)
        return hold(argv[2], argv[3], argv[4]);
    if (argc >= 4 && strcmp(argv[1], "exec") == 0)
        return run(argv[2], argv + 3);
    if (argc == 2 && strcmp(argv[1], "--help") == 0)
        return fputs(help, stdout) == EOF;
    fputs(help, stderr);
    return EXIT_USAGE;
}
