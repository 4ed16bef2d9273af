// Vectors of one instruction set, by the compiler's vector extension. Included once per instruction set,
// inside its own namespace: DENSENETS_BYTES is the width of a register.
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>

#if defined(__AVX512F__) || defined(__AVX2__)
#include <immintrin.h>
#endif

namespace DENSENETS_ISA {

// GCC's and Clang's names for AMX on bfloat16.
#if defined(__AMX_BF16__) || defined(__AMXBF16__)
#define DENSENETS_MATRICES
#endif

#define DENSENETS_INLINE inline __attribute__((always_inline))

#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int kRegisters = 32;
#else
constexpr int kRegisters = 16;
#endif

struct bfloat16 {
  uint16_t bits;
};

template <class T>
struct VectorOf {
  static constexpr int lanes = DENSENETS_BYTES / sizeof(T);
  typedef T type __attribute__((vector_size(DENSENETS_BYTES)));
  typedef T unaligned __attribute__((vector_size(DENSENETS_BYTES), aligned(sizeof(T)), may_alias));
};

template <class T>
using Vector = typename VectorOf<T>::type;
template <class T>
constexpr int kLanes = VectorOf<T>::lanes;

template <class T>
DENSENETS_INLINE Vector<T> broadcast(T value) {
  return value - Vector<T>{};
}

template <class T>
DENSENETS_INLINE Vector<T> load(const T* p) {
  return *reinterpret_cast<const typename VectorOf<T>::unaligned*>(p);
}

template <class T>
DENSENETS_INLINE void store(T* p, Vector<T> v) {
  *reinterpret_cast<typename VectorOf<T>::unaligned*>(p) = v;
}

template <class T>
using IfReal = std::enable_if_t<std::is_floating_point_v<T>, int>;

// The first n lanes, the others zero; n may be anything.
template <class T, IfReal<T> = 0>
DENSENETS_INLINE Vector<T> load_first(const T* p, int64_t n) {
  if (n >= kLanes<T>) return load(p);
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 4) {
    if (n <= 8) return (Vector<T>)_mm512_zextps256_ps512(_mm256_maskz_loadu_ps(n <= 0 ? 0 : (1u << n) - 1, p));
    return (Vector<T>)_mm512_maskz_loadu_ps((1u << n) - 1, p);
  } else {
    return (Vector<T>)_mm512_maskz_loadu_pd(n <= 0 ? 0 : (1u << n) - 1, p);
  }
#else
  Vector<T> v{};
  if (n > 0) std::memcpy(&v, p, n * sizeof(T));
  return v;
#endif
}

template <class T, IfReal<T> = 0>
DENSENETS_INLINE void store_first(T* p, Vector<T> v, int64_t n) {
  if (n >= kLanes<T>) return store(p, v);
#if defined(__AVX512F__)
  const uint32_t mask = n <= 0 ? 0 : (1u << n) - 1;
  if constexpr (sizeof(T) == 4) {
    if (n <= 8) return _mm256_mask_storeu_ps(p, static_cast<__mmask8>(mask), _mm512_castps512_ps256((__m512)v));
    _mm512_mask_storeu_ps(p, static_cast<__mmask16>(mask), (__m512)v);
  } else {
    _mm512_mask_storeu_pd(p, static_cast<__mmask8>(mask), (__m512d)v);
  }
#else
  if (n > 0) std::memcpy(p, &v, n * sizeof(T));
#endif
}

#if defined(__AVX512F__)
DENSENETS_INLINE Vector<float> widen(__m256i bits) {
  return (Vector<float>)_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16);
}

// To the nearest, ties to even, as PyTorch rounds.
DENSENETS_INLINE __m256i narrow(Vector<float> v) {
#if defined(__AVX512BF16__)
  return (__m256i)_mm512_cvtneps_pbh((__m512)v);
#else
  const __m512i bits = (__m512i)v;
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  const __m512i rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
  const __mmask16 nan = _mm512_cmp_ps_mask((__m512)v, (__m512)v, _CMP_UNORD_Q);
  const __m512i quiet = _mm512_mask_mov_epi32(rounded, nan, _mm512_set1_epi32(0x7fc00000));
  return _mm512_cvtepi32_epi16(_mm512_srli_epi32(quiet, 16));
#endif
}

DENSENETS_INLINE Vector<float> load_first(const bfloat16* p, int64_t n) {
  if (n >= 16) return widen(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  const __mmask16 mask = n <= 0 ? 0 : (1u << n) - 1;
  return widen(_mm256_maskz_loadu_epi16(mask, p));
}

DENSENETS_INLINE void store_first(bfloat16* p, Vector<float> v, int64_t n) {
  if (n >= 16) return _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), narrow(v));
  const __mmask16 mask = n <= 0 ? 0 : (1u << n) - 1;
  _mm256_mask_storeu_epi16(p, mask, narrow(v));
}
#else
DENSENETS_INLINE float widen(bfloat16 value) {
  const uint32_t bits = static_cast<uint32_t>(value.bits) << 16;
  float wide;
  std::memcpy(&wide, &bits, 4);
  return wide;
}

DENSENETS_INLINE bfloat16 narrow(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  if (value != value) return {0x7fc0};
  return {static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16)};
}

DENSENETS_INLINE Vector<float> load_first(const bfloat16* p, int64_t n) {
  Vector<float> v{};
  const int count = n < kLanes<float> ? static_cast<int>(n) : kLanes<float>;
  for (int i = 0; i < count; i++) v[i] = widen(p[i]);
  return v;
}

DENSENETS_INLINE void store_first(bfloat16* p, Vector<float> v, int64_t n) {
  const int count = n < kLanes<float> ? static_cast<int>(n) : kLanes<float>;
  for (int i = 0; i < count; i++) p[i] = narrow(v[i]);
}
#endif

// max(v, 0) that lets NaN through, as PyTorch's does.
template <class T>
DENSENETS_INLINE Vector<T> relu(Vector<T> v) {
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 4) {
    return (Vector<T>)_mm512_max_ps(_mm512_setzero_ps(), (__m512)v);
  } else {
    return (Vector<T>)_mm512_max_pd(_mm512_setzero_pd(), (__m512d)v);
  }
#else
  return v < 0 ? Vector<T>{} : v;
#endif
}

}  // namespace DENSENETS_ISA
