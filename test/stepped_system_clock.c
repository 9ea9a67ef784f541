// A system clock that a test can set: a library to preload, which adds the seconds that the file $SYSTEM_CLOCK_OFFSET
// holds (an int64 in the machine's byte order) to CLOCK_REALTIME.  The steady clock stays as it is.
//
// The kernel does not know of it, so whoever waits until a time of that clock has to be given the kernel's.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>

static int (*true_gettime)(clockid_t, struct timespec *);
static const volatile int64_t *offset;

__attribute__((constructor)) static void begin(void)
{
    true_gettime = dlsym(RTLD_NEXT, "clock_gettime");
    const char *path = getenv("SYSTEM_CLOCK_OFFSET");
    int file = path ? open(path, O_RDONLY) : -1;
    void *mapped = file < 0 ? MAP_FAILED : mmap(0, sizeof *offset, PROT_READ, MAP_SHARED, file, 0);
    if (mapped != MAP_FAILED)
        offset = mapped;
}

int clock_gettime(clockid_t clock, struct timespec *time)
{
    if (!true_gettime)
        begin();
    int result = true_gettime(clock, time);
    if (result == 0 && offset && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        time->tv_sec += *offset;
    return result;
}

int gettimeofday(struct timeval *restrict time, void *restrict zone)
{
    struct timespec now;
    (void)zone;
    int result = clock_gettime(CLOCK_REALTIME, &now);
    time->tv_sec = now.tv_sec;
    time->tv_usec = now.tv_nsec / 1000;
    return result;
}

static struct timespec of_kernel(clockid_t clock, const struct timespec *until)
{
    struct timespec result = *until;
    if (offset && clock == CLOCK_REALTIME && until->tv_sec > 1000000000)  // less is the steady clock's
        result.tv_sec -= *offset;
    return result;
}

int pthread_cond_timedwait(pthread_cond_t *condition, pthread_mutex_t *mutex, const struct timespec *until)
{
    int (*next)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *) =
        dlvsym(RTLD_NEXT, "pthread_cond_timedwait", "GLIBC_2.3.2");
    struct timespec time = of_kernel(CLOCK_REALTIME, until);
    if (!next)
        next = dlsym(RTLD_NEXT, "pthread_cond_timedwait");
    return next(condition, mutex, &time);
}

int pthread_cond_clockwait(pthread_cond_t *condition, pthread_mutex_t *mutex, clockid_t clock,
                           const struct timespec *until)
{
    int (*next)(pthread_cond_t *, pthread_mutex_t *, clockid_t, const struct timespec *) =
        dlsym(RTLD_NEXT, "pthread_cond_clockwait");
    struct timespec time = of_kernel(clock, until);
    return next(condition, mutex, clock, &time);
}

int pthread_mutex_timedlock(pthread_mutex_t *mutex, const struct timespec *until)
{
    int (*next)(pthread_mutex_t *, const struct timespec *) = dlsym(RTLD_NEXT, "pthread_mutex_timedlock");
    struct timespec time = of_kernel(CLOCK_REALTIME, until);
    return next(mutex, &time);
}

int sem_timedwait(sem_t *semaphore, const struct timespec *until)
{
    int (*next)(sem_t *, const struct timespec *) = dlsym(RTLD_NEXT, "sem_timedwait");
    struct timespec time = of_kernel(CLOCK_REALTIME, until);
    return next(semaphore, &time);
}
