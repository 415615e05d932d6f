// The gradients of one layer's weights, summed over several backward calls.
#pragma once

#include "buffer.h"
#include "tape.h"

namespace fastrnn {

struct Sums {
    static constexpr int kCount = 5;  // dw_ih, dw_hh, db_ih, db_hh, dvectors

    // Makes the arrays for the gradients of this tape's weights, or checks that they are for these; whether they hold
    // sums already.
    bool fit(const Function& function, const Tape& tape);

    // What rounding has left out of the sums so far: see BackwardArgs.
    template <class Real>
    Real* rest() {
        if (!rest_memory.data()) rest_memory = Buffer(static_cast<std::size_t>(rest_count()) * sizeof(Real));
        return static_cast<Real*>(rest_memory.data());
    }
    Index rest_count() const;

    Cell cell;
    bool single, dense;
    Index I, H, P;
    pybind11::object array[kCount];  // null where the cell has none
    Buffer rest_memory;
    bool started = false;
};

struct SumsObject;

// The Sums in an object, which no other call may use as long as this lives; null for None.
class TakenSums {
public:
    TakenSums(const Function& function, PyObject* object);
    ~TakenSums();
    TakenSums(const TakenSums&) = delete;
    TakenSums& operator=(const TakenSums&) = delete;

    Sums* get() const;

private:
    SumsObject* object_;
};

}  // namespace fastrnn
