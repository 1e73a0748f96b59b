//! The lines of C that are the same in every program that has them.

/// How every such program differs from the plan.
pub const NOTES: &str = " * What is different:
 *
 * - clone: nslab's child shares the memory until execve (CLONE_VM|CLONE_VFORK); this one gets a copy";

/// Its beginning.
pub const INCLUDES: &str = "#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x00000080
#endif

#define STACK_SIZE (1024 * 1024)";

/// For plans in which the child waits for the parent, or must know that it lives.
pub const GATE: &str =
    "/* Written by the parent only: a byte lets the child go on; the end says that the parent is gone. */
static int gate[2];";

/// The end of a step that failed.
pub const DIE: &str = "/* Says which step failed, and why. */
static void die(const char *step)
{
    perror(step);
    _exit(125);
}";

/// For id maps and clock offsets.
pub const WRITE_PROC: &str = "/* Opened before any mount namespace changes. */
static int proc;

static void write_proc(const char *process, const char *file, const char *text)
{
    char path[64];
    snprintf(path, sizeof(path), \"%s/%s\", process, file);
    int fd = openat(proc, path, O_WRONLY | O_CLOEXEC);
    if (fd < 0 || write(fd, text, strlen(text)) < 0)
        die(file);
    close(fd);
}";

/// For maps that need it.
pub const MAP_HELPER: &str = "/* newuidmap(1) or newgidmap(1), which may write what this program may not. */
static void map_helper(const char *program, pid_t pid, const char *ranges)
{
    char *command;
    if (asprintf(&command, \"%s %d %s\", program, pid, ranges) < 0)
        die(program);
    if (system(command) != 0) {
        errno = EPERM;
        die(program);
    }
    free(command);
}";

/// For `join`; the table before it is part of the plan.
pub const ENTER_JOINED: &str =
    "/* What may not be entered before the user namespace may be after it; so in three rounds, as nsenter(1) does. */
static void enter_joined(void)
{
    size_t count = sizeof(joined) / sizeof(joined[0]);
    for (size_t i = 0; i < count; i++) {
        joined[i].fd = open(joined[i].path, O_RDONLY | O_CLOEXEC);
        if (joined[i].fd < 0)
            die(\"open_ns\");
    }
    for (int round = 0; round < 3; round++) {
        for (size_t i = 0; i < count; i++) {
            if (joined[i].fd < 0 || (joined[i].type == CLONE_NEWUSER) != (round == 1))
                continue;
            if (setns(joined[i].fd, joined[i].type) < 0) {
                if (round == 0 && errno == EPERM)
                    continue;
                die(\"setns\");
            }
            close(joined[i].fd);
            joined[i].fd = -1;
        }
    }
}";

/// For `loopback`.
pub const LOOPBACK: &str = "static void loopback_up(void)
{
    struct ifreq request = {.ifr_name = \"lo\"};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || ioctl(fd, SIOCGIFFLAGS, &request) < 0)
        die(\"loopback\");
    request.ifr_flags |= IFF_UP;
    if (ioctl(fd, SIOCSIFFLAGS, &request) < 0)
        die(\"loopback\");
    close(fd);
}";

/// `main`'s first lines.
pub const STACK: &str = "    char *stack = malloc(STACK_SIZE);
    if (stack == NULL)
        die(\"malloc\");";

/// `main`'s last lines.
pub const WAIT: &str = "    int status;
    if (waitpid(pid, &status, 0) < 0)
        die(\"waitpid\");
    free(stack);
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);";
