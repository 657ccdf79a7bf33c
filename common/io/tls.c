#include "common/io/tls.h"

#include <arpa/inet.h>
#include <stdint.h>
#include <stdlib.h>

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

struct ssl_ctx_st *tls_context_new(const char *ca_file, struct err *e)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    int ok;

    if (!ctx)
        abort(); /* out of memory */
    SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION);
    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
    if (ca_file && *ca_file)
        ok = SSL_CTX_load_verify_locations(ctx, ca_file, NULL);
    else
        ok = SSL_CTX_set_default_verify_paths(ctx);
    if (!ok) {
        SSL_CTX_free(ctx);
        err_set(e, ERR_FATAL, 500, "the certificate authorities in %s cannot be read",
                ca_file && *ca_file ? ca_file : "the system's store");
        return NULL;
    }
    return ctx;
}

void tls_context_free(struct ssl_ctx_st *ctx)
{
    SSL_CTX_free(ctx);
}

struct ssl_st *tls_connection_new(struct ssl_ctx_st *ctx, const char *host)
{
    SSL *ssl = SSL_new(ctx);
    unsigned char address[16];

    if (!ssl)
        abort(); /* out of memory */
    if (inet_pton(AF_INET, host, address) == 1 || inet_pton(AF_INET6, host, address) == 1) {
        X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), host);
    } else {
        SSL_set_tlsext_host_name(ssl, (void *)(uintptr_t)host);
        SSL_set1_host(ssl, host);
    }
    return ssl;
}

int tls_failure(struct ssl_st *ssl, unsigned long code, struct err *e)
{
    long verify = SSL_get_verify_result(ssl);
    const char *reason = ERR_reason_error_string(code);

    if (verify != X509_V_OK)
        return err_set(e, ERR_RETRY, 503, "the broker's certificate is not accepted: %s",
                       X509_verify_cert_error_string(verify));
    return err_set(e, ERR_RETRY, 503, "TLS failed: %s", reason ? reason : "connection closed");
}
