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
// Microseconds of one thread. To wake another costs the caller some, and it comes after 50 to 150 on a virtual machine.
constexpr double kWorthWaking = 150;
constexpr int kSpinsAtBarrier = 1000;         // pauses of 10 to 50 ns each
constexpr int kBarriersWithoutSpinning = 64;  // after one at which that was in vain
// A thread that the system takes off its core, for another program's, holds up those that wait for it for milliseconds.
// Who has waited so long makes calls alone that take so many times as long, and more each time that it comes again
// before calls have taken kForgotten times as long as those.
constexpr auto kTooLong = std::chrono::microseconds(400);
constexpr double kLeastAlone = 4, kMostAlone = 32, kForgotten = 8;
constexpr double kTooMuch = 0.25;  // of a call's cost; with less, sharing it has paid all the same

void pause() noexcept {
#if defined(__x86_64__) || defined(_M_X64)
    _mm_pause();
#elif defined(_MSC_VER)
    __yield();
#else
    __asm__ volatile("yield");
#endif
}

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

// How long somebody has waited who has given up spinning; before that, looking at the clock would cost more.
class Waiting {
public:
    void begin() noexcept {
        if (since_ == Clock::time_point{}) since_ = Clock::now();
    }
    Clock::duration too_long() const noexcept {
        if (since_ == Clock::time_point{}) return {};
        const Clock::duration time = Clock::now() - since_;
        return time > kTooLong ? time : Clock::duration{};
    }

private:
    Clock::time_point since_;
};

}  // namespace

struct Team::Shared {
    Shared(TeamBody body, const void* context, int size, StopHook stop)
        : body(body),
          context(context),
          size(size),
          stop(stop),
          callers_mode(read_float_mode()),
          taken(size > 1 ? static_cast<std::size_t>(size) : 0) {
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
    int spins;

    Clock::time_point last_asked;  // these three are rank 0's
    bool stopped = false;
    Clock::duration waited{};  // where that took too long
    std::exception_ptr error;  // whoever sets `failed` first writes it; read when all are done

    // A round in the upper half, and how many pieces of a member's share are taken in it.
    struct alignas(64) Taken {
        std::atomic<std::uint64_t> in_round{0};
    };
    std::vector<Taken> taken;

    // Each of what follows is written by some while others spin on its neighbour: a cache line for each.
    alignas(64) std::atomic<bool> failed{false};
    alignas(64) std::atomic<bool> aborted{false};
    // The round at hand in the upper half; how many members are present; how many of them have arrived at its barrier.
    static constexpr std::uint64_t kRound = std::uint64_t{1} << 32, kPresent = 1 << 16;
    static std::uint32_t round_of(std::uint64_t meeting) noexcept { return static_cast<std::uint32_t>(meeting >> 32); }
    static std::uint64_t present_of(std::uint64_t meeting) noexcept { return meeting >> 16 & 0xffff; }
    static std::uint64_t arrived_of(std::uint64_t meeting) noexcept { return meeting & 0xffff; }
    static_assert(kMaxThreads < 0xffff);
    alignas(64) std::atomic<std::uint64_t> meeting{kPresent};
};

Team::Team(Shared& shared, int rank, int size) noexcept
    : shared_(shared), rank_(rank), size_(size), present_(rank == 0) {}

int Team::size() const noexcept { return size_; }
int Team::rank() const noexcept { return rank_; }

bool Team::present() noexcept {
    if (present_) return true;
    std::uint64_t meeting = shared_.meeting.load(std::memory_order_acquire);
    while (Shared::round_of(meeting) == round_ && !present_)
        present_ = shared_.meeting.compare_exchange_weak(meeting, meeting + Shared::kPresent, std::memory_order_acq_rel,
                                                         std::memory_order_acquire);
    return present_;
}

void Team::barrier() {
    taken_ = 0, share_ = 0;
    if (size_ == 1) return;
    if (shared_.aborted.load(std::memory_order_relaxed)) throw Stopped{};
    const bool present = this->present();
    const std::uint32_t round = round_++;
    if (!present) return;
    std::uint64_t meeting = shared_.meeting.fetch_add(1, std::memory_order_acq_rel) + 1;
    // Who spins in vain may stand in the way of the one it waits for: the system can leave two threads on one core for
    // many milliseconds while another idles. Giving the core away then takes a microsecond.
    if (yielding_ > 0) --yielding_;
    Patience patience(yielding_ > 0 ? 0 : shared_.spins);
    Waiting waiting;
    while (Shared::round_of(meeting) == round) {
        if (Shared::arrived_of(meeting) == Shared::present_of(meeting)) {
            const std::uint64_t next = meeting + Shared::kRound - Shared::arrived_of(meeting);
            if (shared_.meeting.compare_exchange_weak(meeting, next, std::memory_order_acq_rel,
                                                      std::memory_order_acquire))
                break;
            continue;
        }
        if (shared_.aborted.load(std::memory_order_relaxed)) throw Stopped{};
        patience.wait();
        if (patience.exhausted()) waiting.begin();
        meeting = shared_.meeting.load(std::memory_order_acquire);
    }
    if (yielding_ == 0 && patience.exhausted()) yielding_ = kBarriersWithoutSpinning;
    if (rank_ == 0) shared_.waited += waiting.too_long();
}

std::ptrdiff_t Team::claim(std::ptrdiff_t pieces, bool backwards) noexcept {
    if (size_ == 1) {
        if (taken_ == pieces) return -1;
        const std::ptrdiff_t n = taken_++;
        return backwards ? pieces - 1 - n : n;
    }
    if (!present()) return -1;
    for (; share_ < size_; ++share_) {
        const int member = (rank_ + share_) % size_;
        const std::ptrdiff_t begin = pieces * member / size_, end = pieces * (member + 1) / size_;
        std::atomic<std::uint64_t>& taken = shared_.taken[static_cast<std::size_t>(member)].in_round;
        std::uint64_t seen = taken.load(std::memory_order_relaxed);
        for (;;) {
            // Of a round before: nobody has taken any yet.
            const bool current = static_cast<std::uint32_t>(seen >> 32) == round_;
            const std::uint64_t before = current ? seen : std::uint64_t{round_} << 32;
            const auto n = static_cast<std::ptrdiff_t>(before & 0xffffffff);
            if (n >= end - begin) break;
            if (taken.compare_exchange_weak(seen, before + 1, std::memory_order_relaxed))
                return backwards ? end - 1 - n : begin + n;
        }
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
            std::thread thread([this] { serve(); });
            handle_ = thread.native_handle();
            thread.detach();
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

    // Offers it a call to take part in, whether it is awake or not.
    void offer(Team::Shared& call) {
        call_.store(reinterpret_cast<std::uintptr_t>(&call));
        if (!asleep_.load()) return;  // it looks at the offer again before it sleeps
        {
            const std::lock_guard<std::mutex> lock(mutex_);
            woken_ = true;
            if (call.spins > 0) leave_callers_core();
        }
        wake_.notify_one();
    }

    // Returns whether it has not come, and now will not.
    bool withdraw(Team::Shared& call) noexcept {
        std::uintptr_t offered = reinterpret_cast<std::uintptr_t>(&call);
        return call_.compare_exchange_strong(offered, 0);
    }

    // Whether it has taken an offer and is not through with it.
    bool working() const noexcept { return call_.load(std::memory_order_acquire) != 0; }

private:
    void serve() noexcept {
        for (;;) {
            Team::Shared& call = *next();
            call.run_member(rank_);
            call_.store(0, std::memory_order_release);  // from here on the call may be gone
        }
    }

    // Takes an offer, which the caller then cannot withdraw: its lowest bit tells.
    Team::Shared* taken() noexcept {
        static_assert(alignof(Team::Shared) > 1);
        std::uintptr_t call = call_.load(std::memory_order_acquire);
        if (call == 0 || !call_.compare_exchange_strong(call, call | 1)) return nullptr;
        return reinterpret_cast<Team::Shared*>(call);
    }

    Team::Shared* next() {
        for (;;) {
            const Clock::time_point end = Clock::now() + kSpinForWork;
            do {
                for (int i = 0; i < 32; ++i) {
                    if (Team::Shared* const call = taken()) return call;
                    pause();
                }
            } while (Clock::now() < end);
            std::unique_lock<std::mutex> lock(mutex_);
            asleep_.store(true);
            wake_.wait(lock, [this] { return woken_ || call_.load() != 0; });
            asleep_.store(false);
            woken_ = false;  // the offer may be gone, and the next is likely to follow
            return_to_all_cores();
        }
    }

    // Linux may wake a thread on the core of the one that wakes it, and leave both there for many milliseconds while
    // another core idles. So it is woken where that one is not.
#if defined(__linux__)
    void leave_callers_core() noexcept {
        const int core = sched_getcpu();
        if (core < 0 || core >= CPU_SETSIZE) return;
        if (sched_getaffinity(0, sizeof cores_, &cores_) != 0 || CPU_COUNT(&cores_) < 2) return;
        cpu_set_t others = cores_;
        CPU_CLR(core, &others);
        left_ = pthread_setaffinity_np(handle_, sizeof others, &others) == 0;
    }
    void return_to_all_cores() noexcept {
        if (left_) sched_setaffinity(0, sizeof cores_, &cores_);
        left_ = false;
    }
    cpu_set_t cores_;
    bool left_ = false;
#else
    void leave_callers_core() noexcept {}
    void return_to_all_cores() noexcept {}
#endif

    const int rank_;
    std::thread::native_handle_type handle_{};
    alignas(64) std::atomic<std::uintptr_t> call_{0};
    std::atomic<bool> asleep_{false};
    std::mutex mutex_;
    bool woken_ = false;
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
    double following = 0;                   // the cost of the calls so far that followed each other without a pause
    Clock::time_point last_ended;           // of these calls, whether they were shared or not
    double spent = 0;                       // the cost of all calls
    double alone_until = 0, alone_for = 0;  // of these costs; with what has been waited `times` times
    double times = kLeastAlone;

    // Takes note of how long a shared call of such a cost had to wait, where that was too long.
    void note(Clock::duration waited, double cost) noexcept {
        const double time = std::chrono::duration<double, std::micro>(waited).count();
        if (time <= kTooMuch * cost) return;
        if (spent - alone_until > kForgotten * alone_for) times = kLeastAlone;
        alone_for = times * time;
        alone_until = spent + alone_for;
        times = std::min(2 * times, kMostAlone);
    }
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

Crew::Crew(int wanted, double cost) noexcept : cost_(cost) {
    if (wanted <= 1 || !(pool_ = take())) return;
    if (Clock::now() - pool_->last_ended > kSpinForWork) pool_->following = 0;
    pool_->following += cost;
    pool_->spent += cost;
    if (pool_->following < kWorthWaking || pool_->spent < pool_->alone_until) return;
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
    const auto others = [&](const auto& use) {
        for (int i = 0; i < members - 1; ++i) use(*pool_->workers[static_cast<std::size_t>(i)]);
    };
    others([&](Worker& worker) { worker.offer(shared); });
    shared.run_member(0);
    others([&](Worker& worker) {
        if (worker.withdraw(shared)) return;
        Patience patience(shared.spins);
        Waiting waiting;
        while (worker.working()) {
            patience.wait();
            if (!patience.exhausted()) continue;
            waiting.begin();
            shared.ask_whether_to_stop();
        }
        shared.waited += waiting.too_long();
    });
    if (members > 1) pool_->note(shared.waited, cost_);
    if (shared.error) std::rethrow_exception(shared.error);
    if (shared.aborted.load(std::memory_order_relaxed)) throw Stopped{};
}

}  // namespace fastrnn
