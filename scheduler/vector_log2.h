// Four doubles at a time, for the bounds of the greedy pass, which never change what it decides, and for the search of
// goa-relocate. Whatever is reported of a decision comes from the scalar path (delay_model).
#ifndef GOAD_SCHEDULER_VECTOR_LOG2_H_
#define GOAD_SCHEDULER_VECTOR_LOG2_H_

#include <cstdint>
#include <cstring>

// Where the processor has AVX2 the loader picks that version of a function so marked. Both do the same IEEE operations
// in the same order (no contraction), so they give the same bits.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__) && \
    !defined(__SANITIZE_THREAD__) && !defined(GOAD_WITHOUT_AVX2)
#define GOAD_WITH_AVX2 __attribute__((target_clones("avx2", "default")))
#else
#define GOAD_WITH_AVX2
#endif

namespace goad::sched {

typedef double Four __attribute__((vector_size(32)));
typedef uint64_t FourBits __attribute__((vector_size(32)));

// A macro-like inline: a call between functions compiled for different instruction sets could not pass a Four.
#define GOAD_INLINE inline __attribute__((always_inline))

GOAD_INLINE void Load(const double* from, Four* to) { std::memcpy(to, from, sizeof *to); }
GOAD_INLINE void Store(const Four& from, double* to) { std::memcpy(to, &from, sizeof from); }

// Links this much better than the noise could overflow the arithmetic of bounds; nobody has one.
inline constexpr double kMostSinr = 1e290;

// How far the series goes: up to t^13, within 2e-12 of the logarithm, or up to t^7, within 3e-7 and in two thirds of
// the time.
enum class Series { kFine, kRough };

// *log2_y = log2(1 + x) for x in 0..2^1000, up to the rounding of 1 + x, which for a tiny x is a large part of it; no
// monotonicity in the last bits. Any other x gives some number. y = 1 + x = 2^e m with m in [0.75, 1.5), then 2
// atanh(t) / ln 2 with t = (m-1)/(m+1).
template <Series kSeries>
GOAD_INLINE void Log2OnePlus(const Four& x, Four* log2_y) {
  const Four y = 1.0 + x;
  FourBits bits;
  std::memcpy(&bits, &y, sizeof bits);
  const FourBits shifted = (bits - 0x3FE8000000000000ull) >> 52;  // e: 0.75 and above belongs to the next power of two
  const FourBits mantissa = bits - (shifted << 52);
  Four m, e;
  std::memcpy(&m, &mantissa, sizeof m);
  const FourBits e_bits = shifted | 0x4330000000000000ull;  // 2^52 + e
  std::memcpy(&e, &e_bits, sizeof e);
  const Four t = (m - 1.0) / (m + 1.0), t2 = t * t;
  const Four t4 = t2 * t2;
  Four series =
      (1.0 + t2 * (1.0 / 3)) + t4 * (1.0 / 5 + t2 * (1.0 / 7));  // in pairs: short chains of dependent operations
  if constexpr (kSeries == Series::kFine) series += t4 * t4 * ((1.0 / 9 + t2 * (1.0 / 11)) + t4 * (1.0 / 13));
  *log2_y = (e - 0x1p52) + t * series * 2.8853900817779268;
}

}  // namespace goad::sched

#endif  // GOAD_SCHEDULER_VECTOR_LOG2_H_
