/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ring.pml.h - struct gq_word_ring of src/device/protocol/word_ring.h in Promela: one word an
 * entry, put by a compare-and-swap of the entry with a helped tail, taken by a compare-and-swap of
 * the head.
 *
 * Each access to a shared word is one step; everything between interleaves. Positions are bytes:
 * they wrap at 256, and START puts that wrap into every run. Far fewer positions than 256 are used
 * in a run, as far fewer than 2^39 in use, so no word recurs while somebody sleeps on it.
 */
#define POS(p) ((p)&255)
#define IDX(p) ((p) & (CAP - 1))
#ifdef BREAK_NO_LAP
#define TAG_OF(p) (IDX(p) + 1) /* the entry's index, but not the lap */
#else
#define TAG_OF(p) (POS(p) + 1) /* 1 to 256: a word is never 0 */
#endif
#define WORD(p, v) ((TAG_OF(p) << 4) | (v))
#define TAG(w)     ((w) >> 4)
#define VALUE(w)   ((w)&15)
/* Whether position a is behind position b. */
#define BEHIND(a, b) (POS((a) - (b)) >= 128)

#ifndef START
#define START 254
#endif
