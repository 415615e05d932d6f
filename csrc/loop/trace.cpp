#include "loop.h"
#include "tape.h"

namespace fastrnn {

template <class Real>
void trace(const Net<Real>& net, const TraceArgs<Real>& args, Team& team) {
    const Sizes& size = args.size;
    const CellShape& shape = net.shape();
    // The tape is only read; Tape names its pieces for both passes.
    const Tape<Real> tape(net.kernels, shape, size, args.format, const_cast<Real*>(args.tape));
    const Index H = size.H, Hp = padded(net.kernels, H), steps = block_steps(size);
    for (Index t = 0; size.B > 0 && t < size.T; ++t) {
        for (Index b = 0; b < step_rows(size, t); ++b) {
            const Index row = first_row(size, t) + b;
            RestoredRow<Real> at;
            at.saved = tape.saved + row * tape.saved_pitch;
            for (int s = 0; s < shape.states; ++s) {
                at.before[s] = t % steps == 0 ? tape.state[s] + (t / steps * size.B + b) * tape.state_pitch
                                              : args.state[s] + (first_row(size, t - 1) + b) * H;
                at.after[s] = args.state[s] + row * H;
                at.keep[s] = keep_of(args.regularisation, s, row);
            }
            net.backward().restore(at, H, tape.vectors, args.options, 0, H);
            for (int g = 0; g < shape.gates; ++g)
                if (args.gate[g]) copy(at.saved + g * Hp, H, args.gate[g] + row * H);
        }
        team.poll(kWorkOfMoving * static_cast<double>(step_rows(size, t) * H * (shape.saved + shape.states)));
    }
}

template void trace(const Net<float>&, const TraceArgs<float>&, Team&);
template void trace(const Net<double>&, const TraceArgs<double>&, Team&);

}  // namespace fastrnn
