// A lazy, fork-aware pool of threads, and the team that runs one call.
//
// Nothing here is inline: kernels compiled for any ISA call it, and its code is compiled for the baseline only.
#pragma once

#include <cstddef>
#include <cstdint>

namespace fastrnn {

// The threads that run one call. Members have ranks 0 .. size()-1; rank 0 is the caller's own thread, and is there from
// the beginning. The others come when they have woken up, or never, and nobody waits for them: work that they could do
// is what claim() gives, which others take otherwise. Who comes late runs through the same program without doing
// anything, until it has caught up. So what is not claimed is rank 0's, or the same for every member that is present().
class Team {
public:
    int size() const noexcept;
    int rank() const noexcept;

    // Whether this member takes part from here to the next barrier; it joins the others where it finds them, here or at
    // its next claim or barrier. To be asked before what is done once for several pieces.
    bool present() noexcept;

    // Waits until every member that is present has arrived: spins briefly, then yields. Throws if the call was stopped.
    void barrier();

    // Shares `pieces` pieces of work out: every call gives one that no member has had yet, or -1 once there is none
    // left. A member gets those of its own share in order - the last first, if `backwards` - and when it is through
    // with them takes over others', so that neither a slow core nor one that sleeps holds up the rest. Each barrier()
    // starts a new round. There may be up to 2^31 pieces.
    std::ptrdiff_t claim(std::ptrdiff_t pieces, bool backwards = false) noexcept;

    // Called by every member about once a step with an estimate of the floating-point operations since the last call.
    // Now and then rank 0 asks whether the caller wants to stop (Ctrl-C). Throws if the call was stopped.
    void poll(double work);

    // State shared by the members of one call; defined in thread_pool.cpp.
    struct Shared;
    Team(Shared& shared, int rank, int size) noexcept;

private:
    Shared& shared_;
    int rank_;
    int size_;
    bool present_;
    std::uint32_t round_ = 0;   // how many barriers this member has passed
    int share_ = 0;             // of the members' shares, from its own on, the first that may not be used up
    std::ptrdiff_t taken_ = 0;  // pieces of this round, by a member that has no others beside it
    int yielding_ = 0;          // barriers at which not to spin
    double work_ = 0;
};

// What a team runs: called once by every member that comes, in the floating-point mode of kernels. It may throw.
using TeamBody = void (*)(const void* context, Team& team);

// Asks the caller whether the call should stop. Called on the caller's own thread, at most every 30 ms. May not throw.
using StopHook = bool (*)();

// Thrown to the caller of Crew::run when its StopHook said yes.
struct Stopped {};

// Holds the pool for one call. There is one pool, and it serves one call at a time: whoever finds it taken goes on
// alone, rather than wait. So take a crew first, and then decide how to share the work.
class Crew {
public:
    // Starts threads as far as they are missing. `cost` is an estimate of the microseconds of the call on one thread:
    // sleeping threads are woken once it, with the calls that it follows without a pause, is worth their waking up.
    Crew(int wanted, double cost) noexcept;
    ~Crew();
    Crew(const Crew&) = delete;
    Crew& operator=(const Crew&) = delete;

    // The caller's thread included: 1 if another call has the pool, if the others sleep on, or if of late they have
    // held up the caller; less than wanted if threads could not be started.
    int size() const noexcept;

    // Runs the body in a team of `members`, at most size(), and returns when all that came are done. The first
    // exception that a member throws stops the others at their next barrier or poll, and is thrown here; the pool stays
    // usable. `stop` may be null.
    void run(int members, TeamBody body, const void* context, StopHook stop);

private:
    struct Pool;
    static Pool* pool_of_this_process();
    static Pool* take() noexcept;

    Pool* pool_ = nullptr;
    int size_ = 1;
    double cost_;
};

}  // namespace fastrnn
