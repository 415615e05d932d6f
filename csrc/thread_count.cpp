#include "thread_count.h"

#include <algorithm>
#include <atomic>
#include <climits>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>
#include <thread>

#if defined(__linux__)
#include <sched.h>
#endif

namespace fastrnn {
namespace {

int cores() noexcept { return std::max(1, static_cast<int>(std::thread::hardware_concurrency())); }

#if defined(__linux__)

int affinity() noexcept {
    for (int cpus = 1024; cpus <= 1 << 20; cpus *= 4) {  // the kernel refuses a set smaller than its own
        cpu_set_t* const set = CPU_ALLOC(static_cast<std::size_t>(cpus));
        if (!set) break;
        const std::size_t bytes = CPU_ALLOC_SIZE(static_cast<std::size_t>(cpus));
        const int count = sched_getaffinity(0, bytes, set) == 0 ? CPU_COUNT_S(bytes, set) : 0;
        CPU_FREE(set);
        if (count > 0) return count;
    }
    return cores();
}

// The first line of a file, without its end; empty if there is none.
std::string first_line(const std::string& path) {
    std::string line;
    if (std::FILE* const file = std::fopen(path.c_str(), "re")) {
        char text[256];
        if (std::fgets(text, sizeof text, file)) line.assign(text, std::strcspn(text, "\n"));
        std::fclose(file);
    }
    return line;
}

// Cores' worth of CPU time in each period; INT_MAX where there is no limit.
int quota(const std::string& microseconds, const std::string& period) {
    const double used = std::atof(microseconds.c_str()), of = std::atof(period.c_str());
    if (used <= 0 || of <= 0) return INT_MAX;  // "max", -1, or no such file
    return static_cast<int>(std::min(std::ceil(used / of), 1e6));
}

int quota_v2(const std::string& group) {
    const std::string line = first_line(group + "/cpu.max");  // "200000 100000" or "max 100000"
    const std::size_t space = line.find(' ');
    return space == std::string::npos ? INT_MAX : quota(line.substr(0, space), line.substr(space + 1));
}

int quota_v1(const std::string& group) {
    return quota(first_line(group + "/cpu.cfs_quota_us"), first_line(group + "/cpu.cfs_period_us"));
}

// The least quota of a group and those that it lies in.
template <class Quota>
int least_quota(const std::string& root, std::string group, Quota quota_of) {
    int least = quota_of(root);
    while (group.size() > 1) {
        least = std::min(least, quota_of(root + group));
        group.erase(group.rfind('/'));
    }
    return least;
}

int control_group() {
    int least = INT_MAX;
    std::FILE* const file = std::fopen("/proc/self/cgroup", "re");
    if (!file) return least;
    char text[4096];
    while (std::fgets(text, sizeof text, file)) {  // "0::/group" (v2) or "4:cpu,cpuacct:/group" (v1)
        const std::string line(text, std::strcspn(text, "\n"));
        const std::size_t first = line.find(':'), second = line.find(':', first + 1);
        if (second == std::string::npos || line.compare(second + 1, 1, "/") != 0) continue;
        const std::string controllers = "," + line.substr(first + 1, second - first - 1) + ",";
        const std::string group = line.substr(second + 1);
        if (controllers == ",,")
            least = std::min(least, least_quota("/sys/fs/cgroup", group, quota_v2));
        else if (controllers.find(",cpu,") != std::string::npos)
            least = std::min(least, least_quota("/sys/fs/cgroup/cpu", group, quota_v1));
    }
    std::fclose(file);
    return least;
}

int count_available() noexcept {
    try {
        return std::min(affinity(), control_group());
    } catch (const std::bad_alloc&) {
        return affinity();
    }
}

#else

int count_available() noexcept { return cores(); }

#endif

// A whole number from 1 to kMaxThreads, up to `end`; 0 for anything else.
int parse(const char* text, char end) noexcept {
    char* rest = nullptr;
    const long n = std::strtol(text, &rest, 10);
    while (*rest == ' ') ++rest;
    return rest != text && (*rest == '\0' || *rest == end) && n >= 1 && n <= kMaxThreads ? static_cast<int>(n) : 0;
}

std::atomic<int> available{0}, chosen{0};  // 0: not known yet

}  // namespace

int available_threads() noexcept {
    int n = available.load(std::memory_order_relaxed);
    if (n == 0) available.store(n = std::min(count_available(), kMaxThreads), std::memory_order_relaxed);
    return n;
}

int get_num_threads() noexcept {
    const int n = chosen.load(std::memory_order_relaxed);
    return n > 0 ? n : available_threads();
}

void set_num_threads(int n) noexcept { chosen.store(n, std::memory_order_relaxed); }

void init_num_threads() {
    const char* const own = std::getenv("FASTRNN_NUM_THREADS");
    if (own && *own) {
        const int n = parse(own, '\0');
        if (n == 0)
            throw std::invalid_argument("FASTRNN_NUM_THREADS is '" + std::string(own) +
                                        "', expected a whole number from 1 to " + std::to_string(kMaxThreads));
        set_num_threads(n);
        return;
    }
    const char* const openmp = std::getenv("OMP_NUM_THREADS");
    if (openmp) set_num_threads(parse(openmp, ','));  // of a list, what counts for the outermost level
}

}  // namespace fastrnn
