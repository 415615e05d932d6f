// Letting other Python threads run during a kernel, and letting the user stop it.
#pragma once

#include <pybind11/pybind11.h>

#include <atomic>
#include <exception>

#include "thread_pool.h"

namespace fastrnn {

// Takes the GIL back. Instead of Py_END_ALLOW_THREADS, because a daemon thread that asks for the GIL while the
// interpreter shuts down is ended inside of it, and what would then unwind here has no right to run.
void take_gil_back(PyThreadState* state);

// A step of fewer floating-point operations - some 50 microseconds - keeps the GIL: when several threads want it,
// getting it back takes longer than the step.
constexpr double kWorthReleasingGil = 1e6;

// Runs `body` without the GIL. It may throw, but not touch Python.
template <class Body>
void without_gil(const Body& body) {
    PyThreadState* const state = PyEval_SaveThread();
    std::exception_ptr error;
    try {
        body();
    } catch (...) {
        error = std::current_exception();
    }
    take_gil_back(state);
    if (error) std::rethrow_exception(error);
}

// Of numbers to read or to move one by one: some milliseconds' worth.
constexpr Py_ssize_t kNumbersAtOnce = Py_ssize_t{1} << 20;

// Calls body(begin, end) for parts of [0, n), at most `most` at once, for as long as it returns true; whether it always
// did. More than one part run without the GIL, and between them signal handlers, whose exception is thrown.
template <class Body>
bool in_parts(Py_ssize_t n, Py_ssize_t most, const Body& body) {
    if (n <= most) return body(Py_ssize_t{0}, n);
    bool good = true;
    for (Py_ssize_t begin = 0; good && begin < n; begin += most) {
        without_gil([&] { good = body(begin, n - begin < most ? n : begin + most); });
        if (PyErr_CheckSignals() != 0) throw pybind11::error_already_set();
    }
    return good;
}

// Whether a call is at work on an object of which there may be one at a time: others are told so rather than wait.
// Where there is a GIL, only its holder asks, and that takes no more than a look.
class Busy {
public:
    bool take() noexcept {
#ifdef Py_GIL_DISABLED
        return !taken_.exchange(true, std::memory_order_acquire);
#else
        if (taken_.load(std::memory_order_relaxed)) return false;
        taken_.store(true, std::memory_order_relaxed);
        return true;
#endif
    }
    void give_back() noexcept { taken_.store(false, std::memory_order_release); }

private:
    std::atomic<bool> taken_{false};
};

// For a call of so many floating-point operations, made from this thread: a hook that tells whether a signal handler
// has raised an exception, such as KeyboardInterrupt. Null for short calls, and for other threads than the main one, on
// which Python runs no handlers.
StopHook stop_hook(double flops);

// Calls what may throw from where C calls: returns its result, or null with the Python exception set.
template <class Body>
PyObject* with_python_errors(const Body& body) {
    try {
        return body();
    } catch (pybind11::error_already_set& error) {
        error.restore();
    } catch (const pybind11::builtin_exception& error) {
        error.set_error();
    } catch (const Stopped&) {
        // The hook has left the handler's exception with the thread.
    } catch (const std::bad_alloc&) {
        PyErr_NoMemory();
    } catch (const std::exception& error) {
        PyErr_SetString(PyExc_RuntimeError, error.what());
    }
    return nullptr;
}

}  // namespace fastrnn
