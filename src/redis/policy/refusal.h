/* SPDX-License-Identifier: Apache-2.0 */
/* refusal.h - what to do about an error reply of Redis. Pure. */
#ifndef GPUQ_REDIS_REFUSAL_H
#define GPUQ_REDIS_REFUSAL_H

enum refusal {
	REFUSAL_WAIT,      /* LOADING, BUSY, CLUSTERDOWN, TRYAGAIN, MASTERDOWN: try again later */
	REFUSAL_ELSEWHERE, /* READONLY, MOVED, ASK: not this server; connect again */
	REFUSAL_NO_GROUP,  /* NOGROUP: the stream or the group has gone; make it again */
	REFUSAL_NO_MEMORY, /* OOM: Redis takes nothing that needs memory */
	REFUSAL_NO_SCRIPT, /* NOSCRIPT: send the script itself */
	REFUSAL_EXISTS,    /* BUSYGROUP: the group is there already */
	REFUSAL_FATAL,     /* NOAUTH, WRONGPASS, NOPERM, WRONGTYPE: a person has to look */
	REFUSAL_OTHER,     /* anything else */
};

/** What an error's text asks for; also when it comes out of a script. */
enum refusal refusal_of(const char *error);

#endif /* GPUQ_REDIS_REFUSAL_H */
