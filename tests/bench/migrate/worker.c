/* Copyright (c) 2026, kvmops.fleet contributors
 * GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * The application of the measurement, in the guest: works, answers, and writes whole pages.
 *
 *   worker WHOLE_MIB_S SET_MIB
 *
 * A unit of work is done every 10 ms and never made up for. Whoever sends a datagram to port 7 gets it back, with the
 * number of units done behind it.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define PAGE_WORDS 512
#define STEP 0x9e3779b97f4a7c15ull

static volatile uint64_t *units;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static void pause_s(double seconds)
{
    struct timespec t = {0, (long)(seconds * 1e9)};
    nanosleep(&t, NULL);
}

static void work(void)
{
    volatile uint64_t value = 1;
    for (;;) {
        for (int i = 0; i < 30000; i++)
            value = value * STEP + 1;
        ++*units;
        pause_s(0.01);
    }
}

/* Every word of every page met becomes another. */
static void write_pages(double mib_s, size_t set_mib)
{
    size_t pages = set_mib * 256, at = 0;
    uint64_t *memory = mmap(NULL, pages * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    uint64_t value = STEP;
    double owed = 0, before = now();
    if (memory == MAP_FAILED)
        exit(1);
    for (size_t i = 0; i < pages * PAGE_WORDS; i++)
        value ^= value << 13, value ^= value >> 7, value ^= value << 17, memory[i] = value;
    for (;;) {
        pause_s(0.01);
        double time = now();
        owed += (time - before < 0.2 ? time - before : 0.2) * mib_s * 256;
        before = time;
        for (; owed >= 1; owed--, at = (at + 1) % pages) {
            uint64_t *page = memory + at * PAGE_WORDS;
            value += STEP;
            for (int i = 0; i < PAGE_WORDS; i++)
                page[i] += value ^ page[i] << 9;
        }
    }
}

static void answer(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(7)};
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    if (bind(fd, (struct sockaddr *)&address, sizeof address) != 0)
        exit(1);
    for (;;) {
        uint64_t message[2];
        socklen_t length = sizeof address;
        if (recvfrom(fd, message, sizeof *message, 0, (struct sockaddr *)&address, &length) == sizeof *message) {
            message[1] = *units;
            sendto(fd, message, sizeof message, 0, (struct sockaddr *)&address, length);
        }
    }
}

int main(int argc, char **argv)
{
    double mib_s = argc > 1 ? atof(argv[1]) : 0;
    size_t set_mib = argc > 2 ? strtoul(argv[2], NULL, 10) : 0;
    units = mmap(NULL, sizeof *units, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (fork() == 0)
        work();
    if (mib_s > 0 && set_mib > 0 && fork() == 0)
        write_pages(mib_s, set_mib);
    answer();
}
