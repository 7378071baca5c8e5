/* SPDX-License-Identifier: Apache-2.0 */
/*
 * chardev_wire.h - what goes over the character device: a file, each open() of which is a
 * connection.
 *
 *   open(O_RDWR)  begins it. EAGAIN: gpuqd takes in nobody now. It has ended when the last copy of
 *                 the descriptor is closed
 *   ioctl()       a frame to gpuqd, or a piece of one. It never waits. EAGAIN: there is no room;
 *                 EPIPE: gpuqd has ended the connection; EINVAL: no such piece, or not of this
 *                 number; EMSGSIZE: too long a frame, or too long for the kernel; ENOTTY: another
 *                 number. A frame of no bytes ends the connection, whoever has copies of the
 *                 descriptor
 *   read()        the next frame from gpuqd, all of it. EAGAIN: there is none; it never waits, also
 *                 without O_NONBLOCK. 0: gpuqd has ended the connection; EMSGSIZE: it has more
 * bytes than there is room for, and stays poll()        as of a socket. Who waits, waits here
 *
 * Once gpuqd has died, all of them fail: ENOTCONN, ECONNABORTED.
 *
 * Who shares a file puts its frames together one after the other: of a frame in pieces there is one
 * for each open().
 *
 * There is no write(): while it waits for gpuqd the kernel holds a lock of the file that all who
 * have opened it share, and who waits for that lock cannot be killed. ioctl() takes no lock.
 *
 * The number of an ioctl says what its frame asks for, so that a filter of system calls can tell.
 * Pointers in frames there are none, so the layouts are the same for processes of 32 and 64 bit.
 */
#ifndef GPUQ_BROKER_POLICY_CHARDEV_WIRE_H
#define GPUQ_BROKER_POLICY_CHARDEV_WIRE_H

#include "wire.h"

enum {
	GQ_CHARDEV_LETTER = 'V',
	GQ_CHARDEV_REGISTER = 0x20, /* of a service */
	GQ_CHARDEV_UNREGISTER = 0x21,
	GQ_CHARDEV_SEND = 0x22,   /* every other frame */
	GQ_CHARDEV_STATUS = 0x23, /* how a service is: its heartbeats, its health */
	GQ_CHARDEV_LIST = 0x24,   /* which services there are */
	GQ_CHARDEV_STATS = 0x25,
};

/* What an ioctl's argument points to. Its size is in the ioctl's number. */
struct gq_chardev_piece {
	uint32_t frame_bytes; /* of all of the frame */
	uint32_t offset;      /* of these bytes in it: where the piece before has ended */
			      /* and the bytes, at most GQ_CHARDEV_PIECE_MAX */
};

enum {
	GQ_CHARDEV_ARGUMENT_MAX = 16383, /* the number has no room for more */
	GQ_CHARDEV_PIECE_MAX = 16368,
	/* A frame that is a bit too long is taken, and gpuqd answers why it is refused. */
	GQ_CHARDEV_FRAME_MAX = GQ_WIRE_FRAME_MAX + 8,
};

/* For so many bytes of a frame: as <sys/ioctl.h> makes it. */
#define GQ_CHARDEV_IOCTL(number, bytes)                                                            \
	_IOC(_IOC_WRITE, GQ_CHARDEV_LETTER, (number), sizeof(struct gq_chardev_piece) + (bytes))

_Static_assert(GQ_CHARDEV_REGISTER == 0x20 && GQ_CHARDEV_UNREGISTER == 0x21 &&
		       GQ_CHARDEV_SEND == 0x22 && GQ_CHARDEV_STATUS == 0x23 &&
		       GQ_CHARDEV_LIST == 0x24 && GQ_CHARDEV_STATS == 0x25,
	       "numbers that programs have in them");
_Static_assert(sizeof(struct gq_chardev_piece) == 8 && _Alignof(struct gq_chardev_piece) == 4 &&
		       offsetof(struct gq_chardev_piece, frame_bytes) == 0 &&
		       offsetof(struct gq_chardev_piece, offset) == 4,
	       "the layout for 32 and 64 bit");
_Static_assert(sizeof(struct gq_chardev_piece) + GQ_CHARDEV_PIECE_MAX <= GQ_CHARDEV_ARGUMENT_MAX &&
		       GQ_CHARDEV_PIECE_MAX % 8 == 0,
	       "a piece is an argument");

/* The number for a frame, by its type. What is too short to have one is sent all the same: gpuqd
 * says what is wrong with it. */
static inline unsigned gq_chardev_number(const uint8_t *frame, size_t bytes)
{
	const uint8_t *at = frame + GQ_WIRE_AT_TYPE;

	if (bytes < GQ_WIRE_HEADER_BYTES)
		return GQ_CHARDEV_SEND;
	switch ((uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 |
		(uint32_t)at[3] << 24) {
	case GQ_MESSAGE_REGISTER:
		return GQ_CHARDEV_REGISTER;
	case GQ_MESSAGE_UNREGISTER:
		return GQ_CHARDEV_UNREGISTER;
	case GQ_MESSAGE_HEARTBEAT:
	case GQ_MESSAGE_HEALTH_RESPONSE:
		return GQ_CHARDEV_STATUS;
	case GQ_MESSAGE_DISCOVERY:
	case GQ_MESSAGE_WATCH:
		return GQ_CHARDEV_LIST;
	case GQ_MESSAGE_STATS:
		return GQ_CHARDEV_STATS;
	default:
		return GQ_CHARDEV_SEND;
	}
}

#endif /* GPUQ_BROKER_POLICY_CHARDEV_WIRE_H */
