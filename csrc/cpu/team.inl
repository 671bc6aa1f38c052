// One image shared by two threads: between two barriers each thread does its own part of every
// layer. The parts are computed in the same way by a single thread, so that the bits do not
// depend on how many there are.

// Part `rank` of `parts` equal ones of 0 ... count - 1.
PYOIP_INLINE Range part(int count, int rank, int parts) {
    return {count * rank / parts, count * (rank + 1) / parts};
}

struct Team {
    int rank, size;  // size 1 or 2
    TeamState* state;

    Range share(int count) const { return part(count, rank, size); }

    // Waits until all are here; what they wrote before is then seen by all.
    void meet() const {
        if (size == 1) return;
        const int round = __atomic_load_n(&state->round, __ATOMIC_ACQUIRE);
        if (__atomic_add_fetch(&state->arrived, 1, __ATOMIC_ACQ_REL) == size) {
            __atomic_store_n(&state->arrived, 0, __ATOMIC_RELAXED);
            __atomic_store_n(&state->round, round + 1, __ATOMIC_RELEASE);
            return;
        }
        for (int spins = 0; __atomic_load_n(&state->round, __ATOMIC_ACQUIRE) == round; ++spins) {
            if (spins == kPatientSpins && rank == 0) ++state->waits;
            if (spins >= kPatientSpins)
                sched_yield();  // the other one may be waiting for this processor
            else
                relax();
        }
    }

    // Whether one thread alone would be quicker: where there is no second processor, or a busy one.
    bool is_slow(int steps) const { return size > 1 && state->waits > 16 + steps / 8; }

private:
    static constexpr int kPatientSpins = 1000;  // some tens of microseconds

    static void relax() {
#if defined(__x86_64__)
        __builtin_ia32_pause();
#endif
    }
};

static void dismiss(TeamState* state) {
    state->finished = true;
    Team{0, 2, state}.meet();
}
