/* SPDX-License-Identifier: Apache-2.0 */
/*
 * protocol.h - the layouts host and consumers share, and every step of the protocol between them.
 *
 * Compiled unchanged by gcc, clang, nvcc and NVRTC. docs/design.md explains the
 * construction, docs/design/memory-model.md has the table of its edges: every acquire and release
 * below carries a label
 * ([message.publish], [message.claim], ...) that names it there. In short:
 *
 *   pool     Free slots sit in a ring of slot numbers. A producer pops one [pool.take] and owns
 *            the slot; the word it popped is the message's id.
 *   publish  The producer fills the slot and puts its number into the ring of the message's class
 *            by one compare-and-swap of the ring entry [message.publish], whose upper bits carry
 *            the position. Nobody reserves a place and then fills it, so there are no holes: a
 *            producer that stalls or dies before the swap delays nobody.
 *   claim    A consumer that sees the entry at a class cursor published [message.claim] claims it
 *            by advancing the cursor. Stop, cancel, deadline and priority are decided here.
 *   complete The consumer puts slot and outcome into the completion ring [message.complete]; the
 *            host reaps them in order [message.reap].
 *   park     A consumer that finds nothing registers, looks again [sleep.look], then sleeps. A
 *            publisher looks for sleepers after it has published [wake.look].
 *
 * No ring can overflow: each holds a slot at most once, and has room for all of them.
 */
#ifndef GPUQ_PROTOCOL_PROTOCOL_H
#define GPUQ_PROTOCOL_PROTOCOL_H

#include "device/protocol/atomics.h"
#include "device/protocol/channel.h"
#include "device/protocol/claim.h"
#include "device/protocol/complete.h"
#include "device/protocol/event.h"
#include "device/protocol/layout.h"
#include "device/protocol/pool.h"
#include "device/protocol/publish.h"
#include "device/protocol/seal.h"
#include "device/protocol/slot.h"
#include "device/protocol/word_ring.h"

#endif /* GPUQ_PROTOCOL_PROTOCOL_H */
