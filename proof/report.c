/* What a program sees of itself, as JSON; bytes that are no ASCII as \u00XX. Then it ends as it was told.
 *
 *     report FILE CODE [WORD…]      writes FILE and exits with CODE, or by signal -CODE
 *
 * In C, so that nothing but execve(2) is between the options and what is seen: an interpreter ignores signals, opens
 * descriptors and adds variables.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <net/if.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

static FILE *out;
static char bytes[1 << 20];

static void text(const char *name, const char *value, size_t length) {
    fprintf(out, ",\n\"%s\": \"", name);
    for (size_t i = 0; i < length; i++) {
        unsigned char c = value[i];
        fprintf(out, c >= ' ' && c < 0x7f && c != '"' && c != '\\' ? "%c" : "\\u%04x", c);
    }
    fputc('"', out);
}

static void number(const char *name, long long value) {
    fprintf(out, ",\n\"%s\": %lld", name, value);
}

static void file(const char *name) {
    char path[64];
    snprintf(path, sizeof path, "/proc/self/%s", name);
    int fd = open(path, O_RDONLY);
    size_t length = 0;
    for (ssize_t got; fd >= 0 && (got = read(fd, bytes + length, sizeof bytes - length)) > 0;)
        length += got;
    text(name, bytes, length);
    close(fd);
}

static void link_to(const char *kind) {
    char path[64], name[16];
    snprintf(path, sizeof path, "/proc/self/ns/%s", kind);
    snprintf(name, sizeof name, "ns %s", kind);
    ssize_t length = readlink(path, bytes, sizeof bytes);
    text(name, bytes, length < 0 ? 0 : length);
}

static void clock_of(const char *name, clockid_t clock) {
    struct timespec now = {0};
    clock_gettime(clock, &now);
    number(name, now.tv_sec * 1000000000LL + now.tv_nsec);
}

static void numbers(const char *name, int count, const unsigned *values) {
    fprintf(out, ",\n\"%s\": [", name);
    for (int i = 0; i < count; i++)
        fprintf(out, i ? ", %u" : "%u", values[i]);
    fputc(']', out);
}

static void descriptors(void) {
    fprintf(out, ",\n\"fds\": {");
    const char *comma = "";
    for (int fd = 0; fd < 1024; fd++) {
        struct stat about;
        if (fd == fileno(out) || fstat(fd, &about) < 0)
            continue;
        const char *kind = S_ISFIFO(about.st_mode) ? "pipe" : S_ISREG(about.st_mode) ? "file" : "other";
        if (S_ISCHR(about.st_mode) && about.st_rdev == 0x103)
            kind = "null";
        fprintf(out, "%s\"%d\": [\"%s\", %llu]", comma, fd, kind, (unsigned long long)about.st_ino);
        comma = ", ";
    }
    fputc('}', out);
}

static int lo_is_up(void) {
    struct ifreq request = {.ifr_name = "lo"};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    int done = ioctl(fd, SIOCGIFFLAGS, &request);
    close(fd);
    return done == 0 ? (request.ifr_flags & IFF_UP) != 0 : -1;
}

int main(int argc, char **argv) {
    const char *path = argc > 1 ? argv[1] : "/mnt/report";
    int code = argc > 2 ? atoi(argv[2]) : 0;
    int up = lo_is_up(), signal_of_parent = 0;
    out = fopen(path, "w");
    if (!out)
        return 120;
    unsigned ids[3], groups[1024];
    struct utsname names;
    uname(&names);
    fprintf(out, "{\"argc\": %d", argc);
    for (int i = 0; i < argc; i++) {
        char name[32];
        snprintf(name, sizeof name, "argv %d", i);
        text(name, argv[i], strlen(argv[i]));
    }
    text("hostname", names.nodename, strlen(names.nodename));
    text("domainname", names.domainname, strlen(names.domainname));
    getresuid(&ids[0], &ids[1], &ids[2]);
    numbers("uids", 3, ids);
    getresgid(&ids[0], &ids[1], &ids[2]);
    numbers("gids", 3, ids);
    numbers("groups", getgroups(1024, groups), groups);
    number("pid", getpid());
    number("ppid", getppid());
    number("leads group", getpgid(0) == getpid());
    number("leads session", getsid(0) == getpid());
    number("lo", up);
    clock_of("monotonic", CLOCK_MONOTONIC);
    clock_of("boottime", CLOCK_BOOTTIME);
    prctl(PR_GET_PDEATHSIG, &signal_of_parent);
    number("death signal", signal_of_parent);
    const char *cwd = getcwd(bytes, sizeof bytes) ? bytes : "";
    text("cwd", cwd, strlen(cwd));
    const char *kinds[] = {"cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"};
    for (int i = 0; i < 8; i++)
        link_to(kinds[i]);
    const char *files[] = {"uid_map", "gid_map", "setgroups", "timens_offsets", "environ", "status", "mountinfo", "cgroup"};
    for (int i = 0; i < 8; i++)
        file(files[i]);
    descriptors();
    fprintf(out, "}\n");
    if (fclose(out))
        return 121;
    struct stat about;
    if (fstat(0, &about) == 0 && S_ISFIFO(about.st_mode))
        while (read(0, bytes, sizeof bytes) > 0)
            ;
    /* Nobody may be there. */
    ssize_t ignored = write(1, "out\n", 4) + write(2, "err\n", 4);
    (void)ignored;
    if (code < 0)
        kill(getpid(), -code);
    return code < 0 ? 99 : code;
}
