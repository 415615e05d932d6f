#include "thread_pool.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

#include "float_mode.h"
#include "thread_count.h"

#if !defined(_WIN32)
#include <pthread.h>
#include <signal.h>
#include <unistd.h>
#endif
#if defined(__linux__)
#include <sched.h>
#endif

namespace fastrnn {
namespace {

using Clock = std::chrono::steady_clock;

constexpr double kWorkBetweenClocks = 20e6;  // floating-point operations: some milliseconds at worst
constexpr auto kTimeBetweenStops = std::chrono::milliseconds(30);
constexpr auto kSpinForWork = std::chrono::microseconds(50);  // as long as waking a sleeping thread takes at best
// Floating-point operations. Two threads save half of their time, which then is as long as waking a sleeping thread
// takes where that takes long: 100 microseconds, on a virtual machine.
constexpr double kWorthWaking = 2e7;
constexpr int kSpinsAtBarrier = 1000;         // pauses of 10 to 50 ns each
constexpr int kBarriersWithoutSpinning = 64;  // after one at which that was in vain

void pause() noexcept {
#if defined(__x86_64__) || defined(_M_X64)
    _mm_pause();
#elif defined(_MSC_VER)
    __yield();
#else
    __asm__ volatile("yield");
#endif
}

#if defined(__linux__)
int current_core() noexcept { return sched_getcpu(); }

// Moves this thread, one of the pool's, off a core. Where both cores of two were busy for a moment, Linux can wake a
// thread on the core of the one that woke it, and leave both there for many milliseconds while the other idles.
void leave_core(int core) noexcept {
    cpu_set_t allowed;
    if (core < 0 || core >= CPU_SETSIZE || sched_getcpu() != core) return;
    if (sched_getaffinity(0, sizeof allowed, &allowed) != 0 || CPU_COUNT(&allowed) < 2) return;
    cpu_set_t others = allowed;
    CPU_CLR(core, &others);
    if (sched_setaffinity(0, sizeof others, &others) == 0) sched_setaffinity(0, sizeof allowed, &allowed);
}
#else
int current_core() noexcept { return -1; }
void leave_core(int) noexcept {}
#endif

// Calls pause() or gives the core away, depending on how often it was asked.
class Patience {
public:
    explicit Patience(int spins) noexcept : spins_(spins) {}
    void wait() noexcept {
        if (spins_ > 0) {
            --spins_;
            pause();
        } else {
            std::this_thread::yield();
        }
    }
    bool exhausted() const noexcept { return spins_ == 0; }

private:
    int spins_;
};

}  // namespace

struct Team::Shared {
    Shared(TeamBody body, const void* context, int size, StopHook stop)
        : body(body),
          context(context),
          size(size),
          stop(stop),
          callers_mode(read_float_mode()),
          callers_core(size > 1 ? current_core() : -1),
          taken(size > 1 ? static_cast<std::size_t>(size) : 0),
          working(size - 1) {
        // More members than cores: whoever waits stands in the way of those it waits for.
        spins = size <= available_threads() ? kSpinsAtBarrier : 0;
        if (stop) last_asked = Clock::now();
    }

    void run_member(int rank) noexcept {
        const KernelFloatMode mode;
        Team team(*this, rank, size);
        try {
            body(context, team);
        } catch (const Stopped&) {
            aborted.store(true, std::memory_order_relaxed);
        } catch (...) {
            if (!failed.exchange(true)) error = std::current_exception();
            aborted.store(true, std::memory_order_relaxed);
        }
    }

    // Rank 0 only.
    void ask_whether_to_stop() noexcept {
        if (!stop || stopped) return;
        const Clock::time_point now = Clock::now();
        if (now - last_asked < kTimeBetweenStops) return;
        {
            const FloatMode mode(callers_mode);  // `stop` may run anything of the caller's, such as signal handlers
            stopped = stop();
        }
        last_asked = Clock::now();
        if (stopped) aborted.store(true, std::memory_order_relaxed);
    }

    const TeamBody body;
    const void* const context;
    const int size;
    const StopHook stop;
    const std::uint64_t callers_mode;
    const int callers_core;
    int spins;

    Clock::time_point last_asked;  // these two are rank 0's
    bool stopped = false;
    std::exception_ptr error;  // whoever sets `failed` first writes it; read when all are done

    // How many pieces of each member's share are taken. A member clears its own of the round before, which nobody reads
    // any more, while the round at hand uses the other.
    struct alignas(64) Taken {
        std::atomic<std::ptrdiff_t> in_round[2] = {};
    };
    std::vector<Taken> taken;

    // Each of what follows is written by some while others spin on its neighbour: a cache line for each.
    alignas(64) std::atomic<bool> failed{false};
    alignas(64) std::atomic<bool> aborted{false};
    alignas(64) std::atomic<int> arrived{0};
    alignas(64) std::atomic<unsigned> phase{0};
    alignas(64) std::atomic<int> working;  // members other than rank 0 that are not done
};

Team::Team(Shared& shared, int rank, int size) noexcept : shared_(shared), rank_(rank), size_(size) {}

int Team::size() const noexcept { return size_; }
int Team::rank() const noexcept { return rank_; }

void Team::barrier() {
    taken_ = 0;
    if (size_ == 1) return;
    const unsigned phase = ++phase_;
    if (shared_.arrived.fetch_add(1, std::memory_order_acq_rel) + 1 == size_) {
        shared_.arrived.store(0, std::memory_order_relaxed);
        shared_.phase.store(phase, std::memory_order_release);
    } else {
        // Who spins in vain may stand in the way of the one it waits for: the system can leave two threads on one core
        // for many milliseconds while another idles. Giving the core away then takes a microsecond.
        if (yielding_ > 0) --yielding_;
        Patience patience(yielding_ > 0 ? 0 : shared_.spins);
        while (shared_.phase.load(std::memory_order_acquire) != phase) {
            if (shared_.aborted.load(std::memory_order_relaxed)) throw Stopped{};
            patience.wait();
        }
        if (yielding_ == 0 && patience.exhausted()) yielding_ = kBarriersWithoutSpinning;
    }
    shared_.taken[static_cast<std::size_t>(rank_)].in_round[(phase - 1) % 2].store(0, std::memory_order_relaxed);
}

std::ptrdiff_t Team::claim(std::ptrdiff_t pieces, bool backwards) noexcept {
    if (size_ == 1) {
        if (taken_ == pieces) return -1;
        const std::ptrdiff_t n = taken_++;
        return backwards ? pieces - 1 - n : n;
    }
    for (int i = 0; i < size_; ++i) {
        const int member = (rank_ + i) % size_;
        const std::ptrdiff_t begin = pieces * member / size_, end = pieces * (member + 1) / size_;
        std::atomic<std::ptrdiff_t>& taken = shared_.taken[static_cast<std::size_t>(member)].in_round[phase_ % 2];
        if (taken.load(std::memory_order_relaxed) >= end - begin) continue;
        const std::ptrdiff_t n = taken.fetch_add(1, std::memory_order_relaxed);
        if (n < end - begin) return backwards ? end - 1 - n : begin + n;
    }
    return -1;
}

void Team::poll(double work) {
    work_ += work;
    if (rank_ == 0 && work_ >= kWorkBetweenClocks) {
        work_ = 0;
        shared_.ask_whether_to_stop();
    }
    if (shared_.aborted.load(std::memory_order_relaxed)) throw Stopped{};
}

namespace {

// A thread of the pool. It never ends: at exit the process takes it along, wherever it is.
class Worker {
public:
    // Throws std::system_error if the system has no thread to give.
    explicit Worker(int rank) : rank_(rank) {
#if !defined(_WIN32)
        // Signals are for the threads of the program.
        sigset_t all, before;
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before);
#endif
        try {
            std::thread([this] { serve(); }).detach();
        } catch (...) {
#if !defined(_WIN32)
            pthread_sigmask(SIG_SETMASK, &before, nullptr);
#endif
            throw;
        }
#if !defined(_WIN32)
        pthread_sigmask(SIG_SETMASK, &before, nullptr);
#endif
    }

    void start(Team::Shared& task) {
        task_.store(&task);
        if (!asleep_.load()) return;  // it looks at the task again before it sleeps
        {
            const std::lock_guard<std::mutex> lock(mutex_);
        }
        wake_.notify_one();
    }

private:
    void serve() noexcept {
        for (;;) {
            Team::Shared& task = *next();
            if (task.spins > 0) leave_core(task.callers_core);
            task.run_member(rank_);
            task_.store(nullptr, std::memory_order_relaxed);
            task.working.fetch_sub(1, std::memory_order_release);  // from here on the task may be gone
        }
    }

    Team::Shared* next() {
        const Clock::time_point end = Clock::now() + kSpinForWork;
        do {
            for (int i = 0; i < 32; ++i) {
                if (Team::Shared* task = task_.load(std::memory_order_acquire)) return task;
                pause();
            }
        } while (Clock::now() < end);
        std::unique_lock<std::mutex> lock(mutex_);
        asleep_.store(true);
        wake_.wait(lock, [this] { return task_.load() != nullptr; });
        asleep_.store(false);
        return task_.load();
    }

    const int rank_;
    alignas(64) std::atomic<Team::Shared*> task_{nullptr};
    std::atomic<bool> asleep_{false};
    std::mutex mutex_;
    std::condition_variable wake_;
};

#if defined(_WIN32)
int process() noexcept { return 0; }  // does not fork
#else
pid_t process() noexcept { return getpid(); }
#endif

}  // namespace

// A child has its parent's memory but not its threads, and locks as they stood at that moment: it leaves the parent's
// pool alone and makes its own.
struct Crew::Pool {
    const decltype(process()) owner = process();
    std::atomic<bool> taken{false};
    // Of whoever has taken it:
    std::vector<Worker*> workers;
    double work = 0;               // of the calls so far that followed each other without a pause
    Clock::time_point last_ended;  // of these calls, whether they were shared or not
};

Crew::Pool* Crew::pool_of_this_process() {
    static std::atomic<Pool*> current{nullptr};
    Pool* pool = current.load(std::memory_order_acquire);
    if (pool && pool->owner == process()) return pool;
    Pool* const fresh = new Pool;
    if (current.compare_exchange_strong(pool, fresh)) return fresh;
    delete fresh;
    return pool;  // another thread of this process was first
}

// Null if it is taken.
Crew::Pool* Crew::take() noexcept {
    try {
        Pool* const pool = pool_of_this_process();
        return pool->taken.exchange(true, std::memory_order_acquire) ? nullptr : pool;
    } catch (const std::bad_alloc&) {
        return nullptr;
    }
}

Crew::Crew(int wanted, double work) noexcept {
    if (wanted <= 1 || !(pool_ = take())) return;
    if (Clock::now() - pool_->last_ended > kSpinForWork) pool_->work = 0;
    pool_->work += work;
    if (pool_->work < kWorthWaking) return;
    std::vector<Worker*>& workers = pool_->workers;
    try {
        workers.reserve(static_cast<std::size_t>(wanted));
        while (static_cast<int>(workers.size()) < wanted - 1)
            workers.push_back(new Worker(static_cast<int>(workers.size()) + 1));
    } catch (const std::exception&) {  // no memory or no more threads: those there are will do
    }
    size_ = std::min(wanted, static_cast<int>(workers.size()) + 1);
}

Crew::~Crew() {
    if (!pool_) return;
    pool_->last_ended = Clock::now();
    pool_->taken.store(false, std::memory_order_release);
}

int Crew::size() const noexcept { return size_; }

void Crew::run(int members, TeamBody body, const void* context, StopHook stop) {
    Team::Shared shared(body, context, members, stop);
    for (int i = 0; i < members - 1; ++i) pool_->workers[static_cast<std::size_t>(i)]->start(shared);
    shared.run_member(0);
    Patience patience(shared.spins);
    while (shared.working.load(std::memory_order_acquire) > 0) {
        patience.wait();
        if (patience.exhausted()) shared.ask_whether_to_stop();
    }
    if (shared.error) std::rethrow_exception(shared.error);
    if (shared.aborted.load(std::memory_order_relaxed)) throw Stopped{};
}

}  // namespace fastrnn
