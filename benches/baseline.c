/* The C baseline: the least code that makes the system calls of nslab.spawn() and wait(), for the same flags.
 *
 * It answers the lines `FLAGS PAYLOAD COUNT` on stdin with COUNT lines `called returned reaped closed`
 * (CLOCK_MONOTONIC, ns) on stdout, so that the driver can alternate it with the Python contenders: on a machine
 * that is not idle, only samples taken side by side can be divided.
 * FLAGS is `none` or names joined by commas.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x00000080
#endif
#ifndef P_PIDFD
#define P_PIDFD 3
#endif
#define CLEAR_SIGHAND 0x100000000ULL /* older headers lack CLONE_CLEAR_SIGHAND */

#define STACK_SIZE (64 * 1024)

extern char **environ;

/* struct clone_args up to clone3's first version; glibc has none, and <linux/sched.h> clashes with <sched.h>. */
struct clone_request {
    uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls;
};

struct child {
    uint64_t flags;
    char *argv[2];
    char uid_map[32], gid_map[32];
    sigset_t mask;
    int pidfd;
    uint64_t ids[8];
    /* Written by the child: the memory is shared, so this is the whole error report. */
    const char *failed;
    int error;
};

static const struct {
    const char *name;
    uint64_t flag;
    unsigned request; /* PIDFD_GET_*_NAMESPACE */
} namespaces[] = {
    {"cgroup", CLONE_NEWCGROUP, 1}, {"ipc", CLONE_NEWIPC, 2}, {"mnt", CLONE_NEWNS, 3},
    {"net", CLONE_NEWNET, 4},       {"pid", CLONE_NEWPID, 5}, {"time", CLONE_NEWTIME, 8},
    {"user", CLONE_NEWUSER, 9},     {"uts", CLONE_NEWUTS, 10},
};

/* clone3 has no libc wrapper, and a child on another stack cannot return through this frame:
 * it calls `run` from registers and exits with what that returns. */
static long clone3_run(struct clone_request *request, int (*run)(void *), void *arg) {
#if defined(__x86_64__)
    long result = SYS_clone3;
    register int (*run_reg)(void *) __asm__("r8") = run;
    register void *arg_reg __asm__("r9") = arg;
    __asm__ volatile("syscall\n\t"
                     "test %%rax, %%rax\n\t"
                     "jnz 1f\n\t"
                     "xor %%ebp, %%ebp\n\t"
                     "mov %%r9, %%rdi\n\t"
                     "call *%%r8\n\t"
                     "mov %%eax, %%edi\n\t"
                     "mov %[exit], %%eax\n\t"
                     "syscall\n"
                     "1:"
                     : "+a"(result)
                     : "D"(request), "S"(sizeof *request), "r"(run_reg), "r"(arg_reg),
                       [exit] "i"(SYS_exit)
                     : "rcx", "r11", "memory", "cc");
    return result;
#elif defined(__aarch64__)
    register long result __asm__("x0") = (long)request;
    register long size __asm__("x1") = sizeof *request;
    register int (*run_reg)(void *) __asm__("x2") = run;
    register void *arg_reg __asm__("x3") = arg;
    register long number __asm__("x8") = SYS_clone3;
    __asm__ volatile("svc 0\n\t"
                     "cbnz x0, 1f\n\t"
                     "mov x29, xzr\n\t"
                     "mov x0, x3\n\t"
                     "blr x2\n\t"
                     "mov x8, %[exit]\n\t"
                     "svc 0\n"
                     "1:"
                     : "+r"(result)
                     : "r"(size), "r"(run_reg), "r"(arg_reg), "r"(number), [exit] "i"(SYS_exit)
                     : "memory", "cc");
    return result;
#else
#error "this architecture needs its own clone3_run"
#endif
}

static int write_file(const char *path, const char *text) {
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    ssize_t written = write(fd, text, strlen(text));
    int error = errno;
    close(fd);
    errno = error;
    return written < 0 ? -1 : 0;
}

static int fail(struct child *child, const char *step) {
    child->failed = step;
    child->error = errno;
    return 127;
}

/* Which namespaces the program has must be known even if it is gone before anybody can look. The kernel has put the
 * child's pidfd into the parent's descriptor table, so the child begins with that and then copies it. */
static int note_namespaces(struct child *child) {
    for (size_t i = 0; i < sizeof namespaces / sizeof *namespaces; i++) {
        struct {
            struct file_handle header;
            uint64_t id;
            uint32_t type, inode;
        } handle = {.header.handle_bytes = 16};
        int mount;
        if (!(child->flags & namespaces[i].flag))
            continue;
        int fd = ioctl(child->pidfd, _IO(0xFF, namespaces[i].request), 0);
        if (fd < 0 || name_to_handle_at(fd, "", &handle.header, &mount, AT_EMPTY_PATH))
            return -1;
        child->ids[i] = handle.id;
    }
    return 0;
}

static int run_child(void *arg) {
    struct child *child = arg;
    if (child->flags && unshare(CLONE_FILES))
        return fail(child, "unshare_files");
    if (child->flags & CLONE_NEWUSER) {
        if (write_file("/proc/self/uid_map", child->uid_map))
            return fail(child, "uid_map");
        if (write_file("/proc/self/setgroups", "deny"))
            return fail(child, "setgroups");
        if (write_file("/proc/self/gid_map", child->gid_map))
            return fail(child, "gid_map");
    }
    if (child->flags & CLONE_NEWNS && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL))
        return fail(child, "propagation");
    if (child->flags && note_namespaces(child))
        return fail(child, "note_namespaces");
    if (syscall(SYS_close_range, 3U, ~0U, 0U))
        return fail(child, "close_range");
    /* CLONE_CLEAR_SIGHAND keeps ignored signals ignored, and Python ignores these two. */
    struct sigaction restored = {.sa_handler = SIG_DFL};
    sigaction(SIGPIPE, &restored, NULL);
    sigaction(SIGXFSZ, &restored, NULL);
    sigprocmask(SIG_SETMASK, &child->mask, NULL);
    execve(child->argv[0], child->argv, environ);
    return fail(child, "execve");
}

static long long now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

/* One life: spawn, wait, close. Prints its line, or `error STEP ERRNO`. */
static void live(char *stack, uint64_t flags, char *payload) {
    long long called = now();

    struct child child = {.flags = flags, .argv = {payload, NULL}, .pidfd = -1};
    if (flags & CLONE_NEWUSER) {
        snprintf(child.uid_map, sizeof child.uid_map, "0 %u 1\n", geteuid());
        snprintf(child.gid_map, sizeof child.gid_map, "0 %u 1\n", getegid());
    }
    struct clone_request request = {
        .flags = CLONE_VM | CLONE_VFORK | CLONE_PIDFD | CLEAR_SIGHAND | flags | (flags ? CLONE_FILES : 0),
        .pidfd = (uintptr_t)&child.pidfd,
        .exit_signal = SIGCHLD,
        .stack = (uintptr_t)stack,
        .stack_size = STACK_SIZE,
    };
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, &child.mask);
    long pid = clone3_run(&request, run_child, &child);
    sigprocmask(SIG_SETMASK, &child.mask, NULL);
    if (pid < 0) {
        printf("error clone3 %ld\n", -pid);
        return;
    }

    long long returned = now();

    struct pollfd exited = {.fd = child.pidfd, .events = POLLIN};
    while (poll(&exited, 1, -1) < 0 && errno == EINTR)
        ;
    siginfo_t status;
    waitid(P_PIDFD, child.pidfd, &status, WEXITED);

    long long reaped = now();

    close(child.pidfd);

    long long closed = now();

    if (child.failed)
        printf("error %s %d\n", child.failed, child.error);
    else if (status.si_code != CLD_EXITED || status.si_status != 0)
        printf("error status %d\n", status.si_status);
    else
        printf("%lld %lld %lld %lld\n", called, returned, reaped, closed);
}

static uint64_t parse_flags(char *text) {
    uint64_t flags = 0;
    for (char *name = strtok(text, ","); name; name = strtok(NULL, ","))
        for (size_t i = 0; i < sizeof namespaces / sizeof *namespaces; i++)
            if (strcmp(name, namespaces[i].name) == 0)
                flags |= namespaces[i].flag;
    return flags;
}

int main(void) {
    char *stack = mmap(NULL, STACK_SIZE, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
    if (stack == MAP_FAILED)
        return 1;
    /* stdout is a pipe: the lines leave together when the batch is done, so writing is not timed. */
    static char buffer[1 << 16];
    setvbuf(stdout, buffer, _IOFBF, sizeof buffer);

    char names[128], payload[3968];
    unsigned count;
    while (scanf("%127s %3967s %u", names, payload, &count) == 3) {
        uint64_t flags = parse_flags(names);
        while (count--)
            live(stack, flags, payload);
        fflush(stdout);
    }
    return 0;
}
