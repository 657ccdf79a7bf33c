/* TLS for outgoing connections, by OpenSSL. */
#ifndef IO_TLS_H
#define IO_TLS_H

#include "common/base/err.h"

struct ssl_ctx_st;
struct ssl_st;

/* A client's context that checks certificates against ca_file ("" or NULL: the system's
 * authorities), TLS 1.2 at least. NULL when the file cannot be used. Owned by the caller. */
struct ssl_ctx_st *tls_context_new(const char *ca_file, struct err *e);
void tls_context_free(struct ssl_ctx_st *ctx);

/* A connection that will accept only a certificate made out to the host (a name or an address).
 * Owned by the bufferevent that it is given to. */
struct ssl_st *tls_connection_new(struct ssl_ctx_st *ctx, const char *host);

/* Why the last handshake of this connection failed, into e. Returns -1. */
int tls_failure(struct ssl_st *ssl, unsigned long code, struct err *e);

#endif
