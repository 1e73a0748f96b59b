/* One of a crowd: forks so many children that sleep, says "ready" and waits until stdin is closed.
 *
 * The children end with it, and it ends with whoever holds the other end of its stdin.
 */
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <unistd.h>

int main(int argc, char **argv) {
    char byte;
    for (int left = argc > 1 ? atoi(argv[1]) : 0; left > 0; left--) {
        pid_t child = fork();
        if (child < 0) return 1;
        if (child == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            close(0);
            close(1);
            for (;;) pause();
        }
    }
    if (write(1, "ready\n", 6) != 6) return 1;
    while (read(0, &byte, 1) > 0) {}
    kill(0, SIGKILL);
    return 0;
}
