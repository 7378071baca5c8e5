/* SPDX-License-Identifier: Apache-2.0 */
/* paths.cc - the ways through crc32c and sha256 that a CPU chooses from, one by one. */
#include "kernels.h"

#define process_message crc32c_process_message
#include "crc32c.cu"
#undef process_message

#define process_message sha256_process_message
#include "sha256.cu"
#undef process_message

extern "C" uint32_t crc32c_path_portable(const MsgView *in)
{
	return ~crc32c_portable(0xffffffffu, in->payload, in->len);
}

extern "C" bool crc32c_path_sse42(const MsgView *in, uint32_t *crc)
{
#if defined(__x86_64__)
	if (__builtin_cpu_supports("sse4.2")) {
		*crc = ~crc32c_sse42(0xffffffffu, in->payload, in->len);
		return true;
	}
#endif
	(void)in;
	(void)crc;
	return false;
}

extern "C" void sha256_path_portable_in_two(const MsgView *in, uint32_t cut, uint8_t *digest)
{
	ShaState sha;

	sha256_begin(&sha);
	if (cut > 0)
		sha256_portable(&sha, in->payload, cut, false);
	sha256_portable(&sha, in->payload + cut, in->len - cut, true);
	store_hash(digest, &sha);
}

extern "C" bool sha256_path_ni_in_two(const MsgView *in, uint32_t cut, uint8_t *digest)
{
#if defined(__x86_64__)
	if (cpu_has_sha_ni) {
		ShaState sha;

		sha256_begin(&sha);
		if (cut > 0)
			sha256_ni(&sha, in->payload, cut, false);
		sha256_ni(&sha, in->payload + cut, in->len - cut, true);
		store_hash(digest, &sha);
		return true;
	}
#endif
	(void)in;
	(void)cut;
	(void)digest;
	return false;
}

extern "C" void sha256_path_portable(const MsgView *in, uint8_t *digest)
{
	sha256_path_portable_in_two(in, 0, digest);
}

extern "C" bool sha256_path_ni(const MsgView *in, uint8_t *digest)
{
	return sha256_path_ni_in_two(in, 0, digest);
}
