/* The smallest program there is: no libc, no loader, so that a sample measures the spawn and not ld.so.
 *
 * With -DSTAMP it sleeps for 15 to 25 ms and writes the time to stderr as its last act: what
 * wait() adds to that moment is the wake-up latency. The duration varies so that nobody's
 * polling interval can happen to fit it.
 */
#include <sys/syscall.h>
#include <time.h>

static long call(long number, long a, long b, long c, long d) {
#if defined(__x86_64__)
    long result = number;
    register long fourth __asm__("r10") = d;
    __asm__ volatile("syscall"
                     : "+a"(result)
                     : "D"(a), "S"(b), "d"(c), "r"(fourth)
                     : "rcx", "r11", "memory");
    return result;
#elif defined(__aarch64__)
    register long x0 __asm__("x0") = a;
    register long x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d;
    register long x8 __asm__("x8") = number;
    __asm__ volatile("svc 0" : "+r"(x0) : "r"(x1), "r"(x2), "r"(x3), "r"(x8) : "memory");
    return x0;
#else
#error "this architecture needs its own system call"
#endif
}

#ifdef STAMP
static void sleep_and_stamp(void) {
    struct timespec time;
    call(SYS_clock_gettime, CLOCK_MONOTONIC, (long)&time, 0, 0);
    time.tv_sec = 0;
    time.tv_nsec = 15000000 + time.tv_nsec % 10000000;
    call(SYS_clock_nanosleep, CLOCK_MONOTONIC, 0, (long)&time, 0);

    call(SYS_clock_gettime, CLOCK_MONOTONIC, (long)&time, 0, 0);
    unsigned long stamp = time.tv_sec * 1000000000UL + time.tv_nsec;
    char line[24];
    char *start = line + sizeof line;
    *--start = '\n';
    do
        *--start = '0' + stamp % 10;
    while (stamp /= 10);
    call(SYS_write, 2, (long)start, line + sizeof line - start, 0);
}
#endif

__attribute__((noreturn)) void _start(void) {
#ifdef STAMP
    sleep_and_stamp();
#endif
    call(SYS_exit_group, 0, 0, 0, 0);
    __builtin_unreachable();
}
