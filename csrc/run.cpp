#include "run.h"

#include <cstddef>
#include <numeric>
#include <stdexcept>
#include <vector>

#include "buffer.h"
#include "float_mode.h"
#include "loop/loop.h"
#include "plan.h"
#include "thread_count.h"

namespace fastrnn {
namespace {

// Up to so many rows a step reads the caller's weights as they are, once for every few rows. From there on packing them
// pays.
constexpr Index kRowsOfPlainStep = 8;
// A plain step's workspace is some rows of H: on the stack, where it fits.
constexpr Index kStackBytes = 16 * 1024;

template <class Real>
Net<Real> net_of(const KernelTable& table, Cell cell) {
    return {kernels_of<Real>(table), cell};
}

template <class Real>
Buffer buffer_for(Index n) {
    return Buffer(static_cast<std::size_t>(n) * sizeof(Real));
}

template <class Real>
Workload workload(const Net<Real>& net, const Sizes& size, WeightFormat format) {
    const Index lanes = Index{1} << net.kernels.lanes_log2, depth = 1024;
    const Index elements = net.product(format).packed_size(lanes, 1, depth);
    return {kCells[static_cast<int>(net.cell)], size,
            static_cast<double>(elements) * sizeof(Real) / static_cast<double>(lanes * depth), lanes};
}

// Has every member of a team call run(team).
template <class Run>
void run_in_crew(Crew& crew, int members, const Run& run, StopHook stop) {
    crew.run(members, [](const void* context, Team& team) { (*static_cast<const Run*>(context))(team); }, &run, stop);
}

// The team's share of a call, the same for every kernel: workspace(args) tells the elements that it needs. `split` of
// the arguments is what is wanted, and what is had.
template <class Real, class Args, class Workspace, class Run>
void run_in_team(const Workload& work, Args& args, const Workspace& workspace, const Run& run, StopHook stop) {
    Crew crew(parts(args.split), cost(work, {1, 1}));
    if (crew.size() < parts(args.split)) args.split = choose_split(work, crew.size());
    Buffer memory;
    if (!args.workspace) {
        memory = buffer_for<Real>(workspace(args));
        args.workspace = static_cast<Real*>(memory.data());
    }
    run_in_crew(crew, parts(args.split), [&](Team& team) { run(args, team); }, stop);
}

// A step of many rows: a sequence of one step.
template <class Real>
void run_packed_step(const KernelTable& table, Cell cell, const StepArgs<Real>& args, StopHook stop) {
    const CellInfo& info = kCells[static_cast<int>(cell)];
    ForwardArgs<Real> forward{};
    forward.size = args.size;
    forward.x = args.x;
    std::vector<std::int32_t> slot;
    if (args.token) {
        slot.resize(static_cast<std::size_t>(args.size.B));
        std::iota(slot.begin(), slot.end(), 0);
        forward.tokens = {slot.data(), args.token};
    }
    forward.w_ih = args.w_ih;
    forward.w_hh = args.w_hh;
    forward.b_ih = args.b_ih;
    forward.b_hh = args.b_hh;
    for (int s = 0; s < info.states; ++s) {
        forward.state_0[s] = args.state[s];
        forward.state_n[s] = args.next_state[s];
    }
    run_forward(table, cell, forward, stop);
}

}  // namespace

bool addressable(const CellInfo& cell, const Sizes& size) noexcept {
    const std::uint64_t mode = read_float_mode();
    const double T = static_cast<double>(size.T), B = static_cast<double>(size.B), I = static_cast<double>(size.I),
                 H = static_cast<double>(size.H), G = cell.gates;
    const double padding = 64;  // more than any array adds to its rows
    // A row of the tape, of workspace and of results together; what is made of the weights, by the most threads.
    const double rows = (T + 2) * B * (3 * (I + padding) + (4 * G + 16) * (H + padding));
    const double weights = G * (H + padding) * 8 * (I + H + padding) + kMaxThreads * G * padding * (I + padding);
    constexpr double limit = 4503599627370496.0;  // 2^52: below it, doubles have counted exactly
    if ((rows + weights) * sizeof(double) < limit) return true;
    write_float_mode(mode);  // without the flags of what was rounded
    return false;
}

template <class Real>
Index tape_size(const KernelTable& table, Cell cell, const Sizes& size, WeightFormat format) {
    return tape_size(net_of<Real>(table, cell), size, format);
}

template <class Real>
Index packed_size(const KernelTable& table, Cell cell, const Sizes& size, WeightFormat format) {
    return packed_size(net_of<Real>(table, cell), size, format);
}

template <class Real>
Index forward_workspace(const KernelTable& table, Cell cell, const ForwardArgs<Real>& args) {
    return workspace_size(net_of<Real>(table, cell), args);
}

template <class Real>
void run_forward(const KernelTable& table, Cell cell, ForwardArgs<Real> args, StopHook stop) {
    const Net<Real> net = net_of<Real>(table, cell);
    const Workload work = workload(net, args.size, args.format);
    if (!net.product(args.format).multiply)
        throw std::invalid_argument("weights in this format are not for every type of rows");
    args.split = choose_split(work, get_num_threads());
    Buffer ready;
    if (const Index rows = ready_size(net, args)) {
        // The team may yet be smaller, and then has fewer parts.
        ready = buffer_for<Real>(parts(args.split) * rows);
        args.ready = static_cast<Real*>(ready.data());
    }
    run_in_team<Real>(
        work, args, [&](const ForwardArgs<Real>& a) { return workspace_size(net, a); },
        [&](const ForwardArgs<Real>& a, Team& team) { forward(net, a, team); }, stop);
}

template <class Real>
void run_backward(const KernelTable& table, Cell cell, BackwardArgs<Real> args, StopHook stop) {
    const Net<Real> net = net_of<Real>(table, cell);
    const Workload work = workload(net, args.size, WeightFormat::plain);
    args.split = choose_split(work, get_num_threads());
    run_in_team<Real>(
        work, args, [&](const BackwardArgs<Real>& a) { return workspace_size(net, a); },
        [&](const BackwardArgs<Real>& a, Team& team) { backward(net, a, team); }, stop);
}

template <class Real>
void run_step(const KernelTable& table, Cell cell, StepArgs<Real> args, StopHook stop) {
    if (args.size.B > kRowsOfPlainStep) return run_packed_step(table, cell, args, stop);
    const Net<Real> net = net_of<Real>(table, cell);
    const StepCell<Real>& kernel = net.step();
    const Workload work = workload(net, args.size, WeightFormat::plain);
    args.split = choose_split(work, get_num_threads());
    if (parts(args.split) > 1 || stop)
        return run_in_team<Real>(
            work, args, [&](const StepArgs<Real>& a) { return kernel.workspace(a.size.H); },
            [&](const StepArgs<Real>& a, Team& team) { kernel.run(a, &team); }, stop);
    // Nothing but the step itself: a small one takes a microsecond.
    const Index needed = kernel.workspace(args.size.H) * static_cast<Index>(sizeof(Real));
    alignas(64) std::byte stack[kStackBytes];
    Buffer heap;
    if (needed > kStackBytes) heap = Buffer(static_cast<std::size_t>(needed));
    args.workspace = static_cast<Real*>(needed > kStackBytes ? heap.data() : static_cast<void*>(stack));
    const KernelFloatMode mode;
    kernel.run(args, nullptr);
}

void run_unpack(const KernelTable& table, Cell cell, const UnpackArgs& args, StopHook stop) {
    Crew alone(1, 0);
    run_in_crew(alone, 1, [&](Team& team) { unpack(net_of<float>(table, cell), args, team); }, stop);
}

template <class Real>
void run_trace(const KernelTable& table, Cell cell, const TraceArgs<Real>& args, StopHook stop) {
    Crew alone(1, 0);
    run_in_crew(alone, 1, [&](Team& team) { trace(net_of<Real>(table, cell), args, team); }, stop);
}

#define FASTRNN_INSTANTIATE(Real)                                                           \
    template Index tape_size<Real>(const KernelTable&, Cell, const Sizes&, WeightFormat);   \
    template Index packed_size<Real>(const KernelTable&, Cell, const Sizes&, WeightFormat); \
    template Index forward_workspace(const KernelTable&, Cell, const ForwardArgs<Real>&);   \
    template void run_forward(const KernelTable&, Cell, ForwardArgs<Real>, StopHook);       \
    template void run_backward(const KernelTable&, Cell, BackwardArgs<Real>, StopHook);     \
    template void run_trace(const KernelTable&, Cell, const TraceArgs<Real>&, StopHook);    \
    template void run_step(const KernelTable&, Cell, StepArgs<Real>, StopHook);
FASTRNN_INSTANTIATE(float)
FASTRNN_INSTANTIATE(double)
#undef FASTRNN_INSTANTIATE

}  // namespace fastrnn
