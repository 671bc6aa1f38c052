// Threads of execution on one thread of the host, each with a stack of its own. A change from one to
// another costs some nanoseconds and no system call where the processor is known here.
#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <new>

#if !defined(__x86_64__) && !defined(__aarch64__)
#define PYOIP_UCONTEXT 1  // one system call a change
#include <ucontext.h>
#endif
#if defined(__SANITIZE_ADDRESS__)
#define PYOIP_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define PYOIP_ASAN 1
#endif
#endif
#ifdef PYOIP_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

namespace cuda_host {

#ifndef PYOIP_UCONTEXT
extern "C" void cuda_host_change(void** left, void* next);
#endif

// What a called function must keep lies on the stack that is left; where, is all there is to know.
#if defined(__x86_64__)
inline constexpr int kFrame = 8, kEntry = 6;  // words: six registers, the way in, no way back
asm(R"(
.text
.local cuda_host_change
cuda_host_change:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
)");
#elif defined(__aarch64__)
inline constexpr int kFrame = 20, kEntry = 11;
asm(R"(
.text
.local cuda_host_change
cuda_host_change:
    sub sp, sp, #160
    stp x19, x20, [sp]
    stp x21, x22, [sp, #16]
    stp x23, x24, [sp, #32]
    stp x25, x26, [sp, #48]
    stp x27, x28, [sp, #64]
    stp x29, x30, [sp, #80]
    stp d8, d9, [sp, #96]
    stp d10, d11, [sp, #112]
    stp d12, d13, [sp, #128]
    stp d14, d15, [sp, #144]
    mov x9, sp
    str x9, [x0]
    mov sp, x1
    ldp x19, x20, [sp]
    ldp x21, x22, [sp, #16]
    ldp x23, x24, [sp, #32]
    ldp x25, x26, [sp, #48]
    ldp x27, x28, [sp, #64]
    ldp x29, x30, [sp, #80]
    ldp d8, d9, [sp, #96]
    ldp d10, d11, [sp, #112]
    ldp d12, d13, [sp, #128]
    ldp d14, d15, [sp, #144]
    add sp, sp, #160
    ret
)");
#endif

class Fiber {
public:
    // The next change to this one calls entry() on the given stack; entry() must not return.
    void begin(char* stack, std::size_t bytes, void (*entry)()) {
        bottom_ = stack, bytes_ = bytes, entry_ = entry;
#ifdef PYOIP_ASAN
        __asan_unpoison_memory_region(stack, bytes);  // of frames that were never left
#endif
#ifdef PYOIP_UCONTEXT
        getcontext(&state_);
        state_.uc_stack.ss_sp = stack, state_.uc_stack.ss_size = bytes;
        makecontext(&state_, arrive_first, 0);
#else
        void** frame = reinterpret_cast<void**>(stack + bytes) - kFrame;
        for (int i = 0; i < kFrame; ++i) frame[i] = nullptr;
        frame[kEntry] = reinterpret_cast<void*>(arrive_first);
        state_ = frame;
#endif
    }

    // Leaves this fiber, the running one, for another; returns when that or a third one comes back.
    void change_to(Fiber& next, bool for_good = false) {
        left = this, entered = &next;
        void* kept = nullptr;  // ASan's other stack of this fiber
        leave(next, for_good ? nullptr : &kept);
#ifdef PYOIP_UCONTEXT
        swapcontext(&state_, &next.state_);
#else
        cuda_host_change(&state_, next.state_);
#endif
        arrive(kept);
    }

private:
    static void arrive_first() {
        arrive(nullptr);
        entered->entry_();
    }

#ifdef PYOIP_ASAN
    static void leave(const Fiber& next, void** kept) {
        __sanitizer_start_switch_fiber(kept, next.bottom_, next.bytes_);
    }
    static void arrive(void* kept) { __sanitizer_finish_switch_fiber(kept, &left->bottom_, &left->bytes_); }
#else
    static void leave(const Fiber&, void**) {}
    static void arrive(void*) {}
#endif

    static inline thread_local Fiber *left = nullptr, *entered = nullptr;
#ifdef PYOIP_UCONTEXT
    ucontext_t state_{};
#else
    void* state_ = nullptr;
#endif
    const void* bottom_ = nullptr;
    std::size_t bytes_ = 0;
    void (*entry_)() = nullptr;
};

// Stacks one above the other, with a page between that nobody may touch.
class Stacks {
public:
    static constexpr std::size_t kGuard = 1 << 16, kBytes = 1 << 18;  // the largest page there is, and ours

    explicit Stacks(unsigned count) : total_(count * (kGuard + kBytes)) {
        void* memory =
            mmap(nullptr, total_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (memory == MAP_FAILED) throw std::bad_alloc();
        start_ = static_cast<char*>(memory);
        for (unsigned i = 0; i < count; ++i) mprotect(at(i) - kGuard, kGuard, PROT_NONE);
    }
    ~Stacks() { munmap(start_, total_); }
    Stacks(const Stacks&) = delete;
    Stacks& operator=(const Stacks&) = delete;

    char* at(unsigned i) const { return start_ + i * (kGuard + kBytes) + kGuard; }

private:
    char* start_;
    std::size_t total_;
};

}  // namespace cuda_host
