/* SPDX-License-Identifier: Apache-2.0 */
/* split.h - cuts a stream of bytes into messages: lines, records, pieces of one size. */
#ifndef GPUQ_CLI_SPLIT_H
#define GPUQ_CLI_SPLIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * The splitter owns one buffer of fixed size and never sees a descriptor: its user puts bytes in
 * (split_room, split_filled), says where a file begins and ends (split_begin, split_end), and takes
 * messages out (split_next). A message that is too long is dropped as it comes in, so that memory
 * stays bounded by the limit however long it is.
 */
enum split_mode {
	SPLIT_LINES, /* the bytes before each newline; a last line without one counts */
	SPLIT_NUL,   /* the same with NUL in place of the newline */
	SPLIT_BYTES, /* pieces of piece_bytes; the last of a file may be shorter */
	SPLIT_FILES, /* each file is one message: not the splitter's, see files.c */
};

enum split_step {
	SPLIT_MESSAGE,  /* *out is a message */
	SPLIT_TOO_LONG, /* *out is a message above the limit: no data, only number and length */
	SPLIT_MORE,     /* more bytes are needed, or the end of the file */
	SPLIT_DONE,     /* the file has ended and everything in it has been handed out */
};

struct split_piece {
	const uint8_t *data; /* valid until the next split_room() */
	uint64_t bytes;
	uint64_t number; /* lines: from 1, in its file; pieces: offset in its file */
};

struct split {
	enum split_mode mode;
	size_t piece_bytes;
	size_t limit; /* largest message, bytes */
	uint8_t *buffer;
	size_t size;
	size_t start;     /* first byte not handed out */
	size_t scanned;   /* lines: no separator in [start, scanned) */
	size_t end;       /* one past the last byte read */
	uint64_t dropped; /* bytes of the present message that were dropped: it is too long */
	uint64_t number;  /* of the next message */
	bool ended;       /* split_end() was called */
	char separator;   /* lines */
};

/**
 * @param piece_bytes  SPLIT_BYTES: at most limit_bytes; else ignored
 * @param limit_bytes  largest message
 * @return false: no memory. split_free() is allowed on a splitter that failed, or is zeroed.
 */
bool split_init(struct split *s, enum split_mode mode, size_t piece_bytes, size_t limit_bytes);
void split_free(struct split *s);

/** A file begins. Messages of the one before stay valid; what it left unfinished is dropped. */
void split_begin(struct split *s);

/** Where to put bytes, and how many fit (never 0 after SPLIT_MORE). Moves unfinished data. */
uint8_t *split_room(struct split *s, size_t *out_bytes);

/** So many bytes were put there. */
void split_filled(struct split *s, size_t bytes);

/** The file has ended: what is left is its last message. */
void split_end(struct split *s);

/** The next message of the present file. */
enum split_step split_next(struct split *s, struct split_piece *out);

#endif /* GPUQ_CLI_SPLIT_H */
