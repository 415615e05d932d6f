#include "gil.h"

#include <chrono>
#include <thread>

namespace py = pybind11;

namespace fastrnn {
namespace {

constexpr double kWorthStopping = 50e6;  // floating-point operations: a millisecond

// Python ends a daemon thread with pthread_exit, which unwinds its stack: through destructors that release objects,
// without the GIL, in an interpreter that is going away. Python 3.14 hangs the thread instead; so does this, for every
// version. The process ends a moment later.
struct HangWhenUnwound {
    bool passed = false;
    ~HangWhenUnwound() {
        while (!passed) std::this_thread::sleep_for(std::chrono::hours(1));
    }
};

bool handler_raised() {
    const PyGILState_STATE gil = PyGILState_Ensure();
    const bool raised = PyErr_CheckSignals() != 0;
    PyGILState_Release(gil);
    return raised;
}

bool on_main_thread() {
    // NumPy has imported it; and it knows which thread is the main one after a fork.
    const py::object main = py::module_::import("threading").attr("main_thread")().attr("ident");
    return !main.is_none() && main.cast<unsigned long>() == PyThread_get_thread_ident();
}

}  // namespace

void take_gil_back(PyThreadState* state) {
    HangWhenUnwound guard;
    PyEval_RestoreThread(state);
    guard.passed = true;
}

StopHook stop_hook(double flops) { return flops >= kWorthStopping && on_main_thread() ? handler_raised : nullptr; }

}  // namespace fastrnn
