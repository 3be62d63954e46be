/* What a tiny guest does: ticks, dirties memory, writes records, answers HTTP, obeys the power button.
 *
 * It runs as process 1. Each duty is a process of its own, so that a stalled disk never looks like a stalled network.
 *
 *   kvmguest NAME DIRTY_MIB_S DIRTY_SET_MIB POWEROFF_AFTER_S
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <linux/input.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MAX_BUTTONS 8
#define MAX_PROCESSORS 16
#define PAGE 4096u

struct shared {
    volatile uint64_t ticks, records;
};

static struct shared *shared;
static char boot_id[40] = "unknown";
static const char *name;

static double now(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static void pause_s(double seconds)
{
    struct timespec t = {(time_t)seconds, (long)((seconds - (time_t)seconds) * 1e9)};
    nanosleep(&t, NULL);
}

/* Call act once a second; after a pause of the whole guest the missed seconds are not made up for. */
static void every_second(void (*act)(void))
{
    double next = now(CLOCK_MONOTONIC);
    for (;;) {
        act();
        next += 1;
        double left = next - now(CLOCK_MONOTONIC);
        if (left > 0)
            pause_s(left);
        else
            next -= left;
    }
}

static void tick(void)
{
    printf("tick %llu\n", (unsigned long long)++shared->ticks);
    fflush(stdout);
}

static int records_fd;

static void record(void)
{
    char line[128];
    int n = snprintf(line, sizeof line, "%010llu %s %.3f\n", (unsigned long long)shared->records + 1, boot_id,
                     now(CLOCK_REALTIME));
    if (write(records_fd, line, n) != n || fsync(records_fd) != 0) {
        perror("kvmguest: /data/records");
        return;
    }
    shared->records++;
}

/* Number of the last whole record, so that numbers go on after a reboot. */
static uint64_t last_record(void)
{
    FILE *file = fopen("/data/records", "r");
    char line[256];
    unsigned long long last = 0, number;
    while (file && fgets(line, sizeof line, file))
        if (strchr(line, '\n') && sscanf(line, "%llu ", &number) == 1)
            last = number;
    if (file)
        fclose(file);
    return last;
}

static void write_records(void)
{
    shared->records = last_record();
    records_fd = open("/data/records", O_WRONLY | O_CREAT | O_APPEND, 0644);
    if (records_fd < 0)
        exit(0);
    every_second(record);
}

/* Walk through set_mib of memory and change every page met, mib_s per second. */
static void dirty(double mib_s, size_t set_mib)
{
    size_t pages = set_mib * (1 << 20) / PAGE, at = 0;
    uint64_t value = 88172645463325252ull;
    uint64_t *memory = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
        perror("kvmguest: memory to dirty");
        exit(1);
    }
    for (size_t i = 0; i < pages * PAGE / sizeof *memory; i++) {
        value ^= value << 13, value ^= value >> 7, value ^= value << 17;
        memory[i] = value;
    }
    double owed = 0, before = now(CLOCK_MONOTONIC);
    for (;;) {
        pause_s(0.02);
        double time = now(CLOCK_MONOTONIC);
        owed += (time - before < 1 ? time - before : 1) * mib_s * (1 << 20) / PAGE;
        before = time;
        for (; owed >= 1; owed--, at = (at + 1) % pages)
            memory[at * PAGE / sizeof *memory] += 1;
    }
}

static pid_t children[8];
static int children_count;

static int forked(void)
{
    pid_t pid = fork();
    if (pid > 0)
        children[children_count++] = pid;
    return pid == 0;
}

static void power_off(const char *why)
{
    printf("kvmguest: powering off: %s\n", why);
    fflush(stdout);
    for (int i = 0; i < children_count; i++)
        kill(children[i], SIGKILL);
    for (int i = 0; i < children_count; i++)
        waitpid(children[i], NULL, 0);
    umount2("/data", 0);
    sync();
    reboot(RB_POWER_OFF);
    exit(0);
}

static int listen_http(void)
{
    int yes = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in any = {.sin_family = AF_INET, .sin_port = htons(80)};
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (bind(fd, (struct sockaddr *)&any, sizeof any) != 0 || listen(fd, 64) != 0)
        perror("kvmguest: port 80");
    return fd;
}

/* Append what the kernel sees now: "vda=32768 vdb=8192", each name below dir with the number in its file, or bare. */
static size_t append_names(char *text, size_t at, size_t size, const char *dir_name, const char *file_name)
{
    DIR *dir = opendir(dir_name);
    for (struct dirent *entry; dir && at < size && (entry = readdir(dir));) {
        char path[600];
        long long value;
        if (entry->d_name[0] == '.' || strcmp(entry->d_name, "lo") == 0)
            continue;
        snprintf(path, sizeof path, "%s/%s/%s", dir_name, entry->d_name, file_name);
        FILE *file = fopen(path, "r");
        if (file && fscanf(file, "%lld", &value) == 1)
            at += snprintf(text + at, size - at, " %s=%lld", entry->d_name, value);
        else
            at += snprintf(text + at, size - at, " %s", entry->d_name);
        if (file)
            fclose(file);
    }
    if (dir)
        closedir(dir);
    return at < size ? at : size - 1;
}

static unsigned long long memory_kib(void)
{
    unsigned long long kib = 0;
    FILE *file = fopen("/proc/meminfo", "r");
    if (file && fscanf(file, "MemTotal: %llu", &kib) != 1)
        kib = 0;
    if (file)
        fclose(file);
    return kib;
}

static void answer_http(int listener)
{
    char request[1024], body[1024], page[1280];
    int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    struct timeval patience = {1, 0};
    if (fd < 0)
        return;
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    if (read(fd, request, sizeof request) > 0) {
        size_t size = snprintf(body, sizeof body,
                               "name: %s\ntick: %llu\nboot_id: %s\nrecords: %llu\ncpus: %ld\nmemory_kib: %llu\ndisks:", name,
                               (unsigned long long)shared->ticks, boot_id, (unsigned long long)shared->records,
                               sysconf(_SC_NPROCESSORS_ONLN), memory_kib());
        size = append_names(body, size, sizeof body - 16, "/sys/block", "size");
        size += snprintf(body + size, sizeof body - size, "\nnics:");
        size = append_names(body, size, sizeof body - 2, "/sys/class/net", "carrier");
        size += snprintf(body + size, sizeof body - size, "\n");
        int n = snprintf(page, sizeof page,
                         "HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %zu\r\nConnection: close\r\n\r\n%s",
                         size, body);
        if (write(fd, page, n) < 0)
            perror("kvmguest: answer");
    }
    close(fd);
}

/* Switch on each processor that was plugged in, once, as a distribution's udev rule does: one that is leaving is off, too. */
static void use_processors(void)
{
    static int known[MAX_PROCESSORS];
    for (int i = 1; i < MAX_PROCESSORS; i++) {
        char path[80], state = 0;
        snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%d/online", i);
        int fd = open(path, O_RDWR | O_CLOEXEC);
        if (fd >= 0 && !known[i] && read(fd, &state, 1) == 1 && state == '0' && pwrite(fd, "1", 1, 0) != 1)
            perror("kvmguest: a processor");
        known[i] = fd >= 0;
        if (fd >= 0)
            close(fd);
    }
}

static int open_buttons(struct pollfd *fds)
{
    int count = 0;
    DIR *dir = opendir("/dev/input");
    for (struct dirent *entry; dir && count < MAX_BUTTONS && (entry = readdir(dir));) {
        char path[300];
        if (strncmp(entry->d_name, "event", 5) != 0)
            continue;
        snprintf(path, sizeof path, "/dev/input/%s", entry->d_name);
        int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
        if (fd >= 0)
            fds[count++] = (struct pollfd){.fd = fd, .events = POLLIN};
    }
    if (dir)
        closedir(dir);
    return count;
}

static void serve(double poweroff_after_s)
{
    struct pollfd fds[MAX_BUTTONS + 1];
    struct input_event event;
    int buttons = open_buttons(fds);
    fds[buttons] = (struct pollfd){.fd = listen_http(), .events = POLLIN};
    for (;;) {
        poll(fds, buttons + 1, 1000);
        use_processors();
        for (int i = 0; i < buttons; i++)
            while (read(fds[i].fd, &event, sizeof event) == sizeof event)
                if (event.type == EV_KEY && event.code == KEY_POWER && event.value)
                    power_off("power button");
        if (fds[buttons].revents & POLLIN)
            answer_http(fds[buttons].fd);
        if (poweroff_after_s > 0 && now(CLOCK_BOOTTIME) > poweroff_after_s)
            power_off("kvmops.poweroff_after_s has passed");
    }
}

int main(int argc, char **argv)
{
    struct stat data, root;
    name = argc > 1 ? argv[1] : "guest";
    double mib_s = argc > 2 ? atof(argv[2]) : 0, after_s = argc > 4 ? atof(argv[4]) : 0;
    size_t set_mib = argc > 3 ? strtoul(argv[3], NULL, 10) : 0;
    FILE *id = fopen("/proc/sys/kernel/random/boot_id", "r");
    if (id && fscanf(id, "%39s", boot_id) == 1)
        fclose(id);
    signal(SIGPIPE, SIG_IGN);
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (forked())
        every_second(tick);
    if (stat("/data", &data) == 0 && stat("/", &root) == 0 && data.st_dev != root.st_dev && forked())
        write_records();
    if (mib_s > 0 && forked())
        dirty(mib_s, set_mib ? set_mib : 32);
    serve(after_s);
}
