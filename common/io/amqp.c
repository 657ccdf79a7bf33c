#include "common/io/amqp.h"

#include <stdlib.h>
#include <string.h>

#include <amqp.h>
#include <amqp_framing.h>

enum {
    CHANNELS = 16,        /* that we ever open on one connection, and channel 0 */
    FRAME_OVERHEAD = 8,   /* type, channel, size, end */
    TABLE_DEPTH_MAX = 16, /* deeper ones are read as nothing */
    FRAME_MAX = 131072,
    PROTOCOL_HEADER = 'A', /* rabbitmq-c's frame type for "AMQP" and a version */
};

/* A message on its way in: its method came, its header and body are still to come. */
struct assembly {
    struct arena *arena; /* what in points to; NULL: none under way */
    struct codec_in in;  /* as far as it is known */
    bool headed;
    uint64_t left; /* bytes of the body */
    struct buf body;
};

struct codec {
    amqp_connection_state_t state;
    struct assembly assembly[CHANNELS];
    struct arena *given; /* what the last codec_in points to, or NULL */
    char *scratch;       /* one encoded method or header */
    size_t message_max;
    int frame_max;
};

/* ---- from rabbitmq-c's structs to ours ---- */

static char *string_in(struct arena *a, amqp_bytes_t b)
{
    return arena_strndup(a, b.len ? b.bytes : "", b.len);
}

static void table_in(struct arena *a, struct mq_table *to, const amqp_table_t *from, int depth);

static void value_in(struct arena *a, struct mq_value *to, const amqp_field_value_t *from,
                     int depth)
{
    int i;

    to->kind = (char)from->kind;
    switch (from->kind) {
    case AMQP_FIELD_KIND_BOOLEAN:
        to->integer = from->value.boolean != 0;
        break;
    case AMQP_FIELD_KIND_I8:
        to->integer = from->value.i8;
        break;
    case AMQP_FIELD_KIND_U8:
        to->integer = from->value.u8;
        break;
    case AMQP_FIELD_KIND_I16:
        to->integer = from->value.i16;
        break;
    case AMQP_FIELD_KIND_U16:
        to->integer = from->value.u16;
        break;
    case AMQP_FIELD_KIND_I32:
        to->integer = from->value.i32;
        break;
    case AMQP_FIELD_KIND_U32:
        to->integer = from->value.u32;
        break;
    case AMQP_FIELD_KIND_I64:
        to->integer = from->value.i64;
        break;
    case AMQP_FIELD_KIND_U64:
    case AMQP_FIELD_KIND_TIMESTAMP:
        to->integer = (int64_t)from->value.u64;
        break;
    case AMQP_FIELD_KIND_F32:
        to->real = (double)from->value.f32;
        break;
    case AMQP_FIELD_KIND_F64:
        to->real = from->value.f64;
        break;
    case AMQP_FIELD_KIND_DECIMAL:
        to->integer = from->value.decimal.value;
        to->scale = from->value.decimal.decimals;
        break;
    case AMQP_FIELD_KIND_UTF8:
    case AMQP_FIELD_KIND_BYTES:
        to->text.data = string_in(a, from->value.bytes);
        to->text.len = from->value.bytes.len;
        break;
    case AMQP_FIELD_KIND_TABLE:
        table_in(a, &to->table, &from->value.table, depth + 1);
        break;
    case AMQP_FIELD_KIND_ARRAY:
        if (depth >= TABLE_DEPTH_MAX)
            break;
        to->array.n = (size_t)from->value.array.num_entries;
        to->array.items = arena_alloc(a, to->array.n * sizeof(*to->array.items));
        for (i = 0; i < from->value.array.num_entries; i++)
            value_in(a, &to->array.items[i], &from->value.array.entries[i], depth + 1);
        break;
    default:
        to->kind = 'V';
    }
}

static void table_in(struct arena *a, struct mq_table *to, const amqp_table_t *from, int depth)
{
    int i;

    if (depth >= TABLE_DEPTH_MAX)
        return;
    to->n = to->room = (size_t)from->num_entries;
    to->fields = arena_alloc(a, to->n * sizeof(*to->fields));
    for (i = 0; i < from->num_entries; i++) {
        to->fields[i].name = string_in(a, from->entries[i].key);
        value_in(a, &to->fields[i].value, &from->entries[i].value, depth);
    }
}

static void message_in(struct arena *a, struct mq_message *m, const amqp_basic_properties_t *p)
{
    amqp_flags_t have = p->_flags;

    if (have & AMQP_BASIC_CONTENT_TYPE_FLAG)
        m->content_type = string_in(a, p->content_type);
    if (have & AMQP_BASIC_CONTENT_ENCODING_FLAG)
        m->content_encoding = string_in(a, p->content_encoding);
    if (have & AMQP_BASIC_HEADERS_FLAG)
        table_in(a, &m->headers, &p->headers, 0);
    if (have & AMQP_BASIC_DELIVERY_MODE_FLAG)
        m->delivery_mode = p->delivery_mode;
    if (have & AMQP_BASIC_PRIORITY_FLAG)
        m->priority = p->priority;
    if (have & AMQP_BASIC_CORRELATION_ID_FLAG)
        m->correlation_id = string_in(a, p->correlation_id);
    if (have & AMQP_BASIC_REPLY_TO_FLAG)
        m->reply_to = string_in(a, p->reply_to);
    if (have & AMQP_BASIC_EXPIRATION_FLAG)
        m->expiration = string_in(a, p->expiration);
    if (have & AMQP_BASIC_MESSAGE_ID_FLAG)
        m->message_id = string_in(a, p->message_id);
    if (have & AMQP_BASIC_TIMESTAMP_FLAG)
        m->timestamp = p->timestamp;
    if (have & AMQP_BASIC_TYPE_FLAG)
        m->type = string_in(a, p->type);
    if (have & AMQP_BASIC_USER_ID_FLAG)
        m->user_id = string_in(a, p->user_id);
    if (have & AMQP_BASIC_APP_ID_FLAG)
        m->app_id = string_in(a, p->app_id);
}

/* ---- from our structs to rabbitmq-c's ---- */

static amqp_bytes_t bytes(const char *s)
{
    return s ? amqp_cstring_bytes(s) : amqp_empty_bytes;
}

static void table_out(struct arena *a, amqp_table_t *to, const struct mq_table *from);

static void value_out(struct arena *a, amqp_field_value_t *to, const struct mq_value *from)
{
    size_t i;

    to->kind = (uint8_t)from->kind;
    switch (from->kind) {
    case AMQP_FIELD_KIND_BOOLEAN:
        to->value.boolean = from->integer != 0;
        break;
    case AMQP_FIELD_KIND_I8:
        to->value.i8 = (int8_t)from->integer;
        break;
    case AMQP_FIELD_KIND_U8:
        to->value.u8 = (uint8_t)from->integer;
        break;
    case AMQP_FIELD_KIND_I16:
        to->value.i16 = (int16_t)from->integer;
        break;
    case AMQP_FIELD_KIND_U16:
        to->value.u16 = (uint16_t)from->integer;
        break;
    case AMQP_FIELD_KIND_I32:
        to->value.i32 = (int32_t)from->integer;
        break;
    case AMQP_FIELD_KIND_U32:
        to->value.u32 = (uint32_t)from->integer;
        break;
    case AMQP_FIELD_KIND_I64:
        to->value.i64 = from->integer;
        break;
    case AMQP_FIELD_KIND_U64:
    case AMQP_FIELD_KIND_TIMESTAMP:
        to->value.u64 = (uint64_t)from->integer;
        break;
    case AMQP_FIELD_KIND_F32:
        to->value.f32 = (float)from->real;
        break;
    case AMQP_FIELD_KIND_F64:
        to->value.f64 = from->real;
        break;
    case AMQP_FIELD_KIND_DECIMAL:
        to->value.decimal.value = (uint32_t)from->integer;
        to->value.decimal.decimals = from->scale;
        break;
    case AMQP_FIELD_KIND_UTF8:
    case AMQP_FIELD_KIND_BYTES:
        to->value.bytes.bytes = (void *)(uintptr_t)from->text.data;
        to->value.bytes.len = from->text.len;
        break;
    case AMQP_FIELD_KIND_TABLE:
        table_out(a, &to->value.table, &from->table);
        break;
    case AMQP_FIELD_KIND_ARRAY:
        to->value.array.num_entries = (int)from->array.n;
        to->value.array.entries = arena_alloc(a, from->array.n * sizeof(amqp_field_value_t));
        for (i = 0; i < from->array.n; i++)
            value_out(a, &to->value.array.entries[i], &from->array.items[i]);
        break;
    default:
        to->kind = AMQP_FIELD_KIND_VOID;
    }
}

static void table_out(struct arena *a, amqp_table_t *to, const struct mq_table *from)
{
    size_t i;

    to->num_entries = (int)from->n;
    to->entries = arena_alloc(a, from->n * sizeof(*to->entries));
    for (i = 0; i < from->n; i++) {
        to->entries[i].key = bytes(from->fields[i].name);
        value_out(a, &to->entries[i].value, &from->fields[i].value);
    }
}

static void set_bytes(amqp_basic_properties_t *p, amqp_bytes_t *field, amqp_flags_t flag,
                      const char *text)
{
    if (!text)
        return;
    *field = bytes(text);
    p->_flags |= flag;
}

static void message_out(struct arena *a, amqp_basic_properties_t *p, const struct mq_message *m)
{
    memset(p, 0, sizeof(*p));
    set_bytes(p, &p->content_type, AMQP_BASIC_CONTENT_TYPE_FLAG, m->content_type);
    set_bytes(p, &p->content_encoding, AMQP_BASIC_CONTENT_ENCODING_FLAG, m->content_encoding);
    set_bytes(p, &p->correlation_id, AMQP_BASIC_CORRELATION_ID_FLAG, m->correlation_id);
    set_bytes(p, &p->reply_to, AMQP_BASIC_REPLY_TO_FLAG, m->reply_to);
    set_bytes(p, &p->expiration, AMQP_BASIC_EXPIRATION_FLAG, m->expiration);
    set_bytes(p, &p->message_id, AMQP_BASIC_MESSAGE_ID_FLAG, m->message_id);
    set_bytes(p, &p->type, AMQP_BASIC_TYPE_FLAG, m->type);
    set_bytes(p, &p->user_id, AMQP_BASIC_USER_ID_FLAG, m->user_id);
    set_bytes(p, &p->app_id, AMQP_BASIC_APP_ID_FLAG, m->app_id);
    if (m->headers.n) {
        table_out(a, &p->headers, &m->headers);
        p->_flags |= AMQP_BASIC_HEADERS_FLAG;
    }
    if (m->delivery_mode) {
        p->delivery_mode = m->delivery_mode;
        p->_flags |= AMQP_BASIC_DELIVERY_MODE_FLAG;
    }
    if (m->priority) {
        p->priority = m->priority;
        p->_flags |= AMQP_BASIC_PRIORITY_FLAG;
    }
    if (m->timestamp) {
        p->timestamp = m->timestamp;
        p->_flags |= AMQP_BASIC_TIMESTAMP_FLAG;
    }
}

/* ---- addresses ---- */

int mq_address_parse(const char *url, struct mq_address *out, struct err *e)
{
    struct amqp_connection_info info;
    char *copy = mem_strdup(url);
    int code;

    memset(out, 0, sizeof(*out));
    amqp_default_connection_info(&info);
    code = amqp_parse_url(copy, &info);
    if (code != AMQP_STATUS_OK || !*info.host) {
        free(copy);
        /* The URL may hold a password and is not shown. */
        return err_set(e, ERR_FATAL, 500,
                       "RABBITMQ_URL is not amqp[s]://user:password@host:port/vhost");
    }
    out->user = mem_strdup(info.user);
    out->password = mem_strdup(info.password);
    out->host = mem_strdup(info.host);
    out->vhost = mem_strdup(*info.vhost ? info.vhost : "/");
    out->port = info.port;
    out->tls = info.ssl != 0;
    free(copy);
    return 0;
}

void mq_address_free(struct mq_address *a)
{
    free(a->user);
    free(a->password);
    free(a->host);
    free(a->vhost);
    memset(a, 0, sizeof(*a));
}

/* ---- the codec ---- */

struct codec *codec_new(size_t message_max)
{
    struct codec *c = mem_alloc(sizeof(*c));
    int i;

    c->state = amqp_new_connection();
    if (!c->state)
        abort();
    c->message_max = message_max;
    for (i = 0; i < CHANNELS; i++)
        buf_init(&c->assembly[i].body, message_max);
    /* rabbitmq-c refuses to be tuned before the first frame came; its own limit is good till then. */
    c->frame_max = FRAME_MAX;
    c->scratch = mem_alloc(FRAME_MAX);
    return c;
}

void codec_free(struct codec *c)
{
    int i;

    if (!c)
        return;
    for (i = 0; i < CHANNELS; i++) {
        arena_free(c->assembly[i].arena);
        buf_free(&c->assembly[i].body);
    }
    arena_free(c->given);
    free(c->scratch);
    amqp_destroy_connection(c->state);
    free(c);
}

void codec_set_frame_max(struct codec *c, int size)
{
    c->frame_max = size;
    c->scratch = mem_resize(c->scratch, (size_t)size);
    if (amqp_tune_connection(c->state, CHANNELS, size, 0) != AMQP_STATUS_OK)
        abort(); /* out of memory */
}

static struct arena *given(struct codec *c)
{
    if (!c->given)
        c->given = arena_new();
    return c->given;
}

static void close_in(struct codec *c, struct codec_in *in, enum codec_kind kind, uint16_t code,
                     amqp_bytes_t text)
{
    in->kind = kind;
    in->code = code;
    in->text = string_in(given(c), text);
}

static void start_in(struct codec *c, struct codec_in *in, const amqp_connection_start_t *m)
{
    struct mq_table properties = {0};
    char *mechanisms = string_in(given(c), m->mechanisms), *word;

    in->kind = CODEC_START;
    while ((word = strsep(&mechanisms, " ")))
        if (strcmp(word, "PLAIN") == 0)
            in->plain = true;
    table_in(given(c), &properties, &m->server_properties, 0);
    in->version = mq_table_string(&properties, "version");
    if (!in->version)
        in->version = "";
}

/* Methods that carry something to look at. Returns false for all others. */
static bool method_in(struct codec *c, struct codec_in *in, const amqp_method_t *method)
{
    const union {
        const void *any;
        const amqp_connection_tune_t *tune;
        const amqp_connection_close_t *close;
        const amqp_connection_blocked_t *blocked;
        const amqp_channel_close_t *channel_close;
        const amqp_channel_flow_t *flow;
        const amqp_queue_declare_ok_t *declared;
        const amqp_basic_cancel_t *cancel;
        const amqp_basic_ack_t *ack;
        const amqp_basic_nack_t *nack;
    } m = {.any = method->decoded};

    switch (method->id) {
    case AMQP_CONNECTION_START_METHOD:
        start_in(c, in, method->decoded);
        return true;
    case AMQP_CONNECTION_TUNE_METHOD:
        in->kind = CODEC_TUNE;
        in->channel_max = m.tune->channel_max;
        in->frame_max = m.tune->frame_max > FRAME_MAX ? FRAME_MAX : (int)m.tune->frame_max;
        in->heartbeat = m.tune->heartbeat;
        return true;
    case AMQP_CONNECTION_CLOSE_METHOD:
        close_in(c, in, CODEC_CLOSE, m.close->reply_code, m.close->reply_text);
        return true;
    case AMQP_CONNECTION_BLOCKED_METHOD:
        close_in(c, in, CODEC_BLOCKED, 0, m.blocked->reason);
        return true;
    case AMQP_CHANNEL_CLOSE_METHOD:
        close_in(c, in, CODEC_CHANNEL_CLOSE, m.channel_close->reply_code,
                 m.channel_close->reply_text);
        return true;
    case AMQP_CHANNEL_FLOW_METHOD:
        in->kind = CODEC_CHANNEL_FLOW;
        in->flag = m.flow->active != 0;
        return true;
    case AMQP_QUEUE_DECLARE_OK_METHOD:
        in->kind = CODEC_REPLY;
        in->messages = m.declared->message_count;
        in->consumers = m.declared->consumer_count;
        return true;
    case AMQP_BASIC_CANCEL_METHOD:
        close_in(c, in, CODEC_CANCEL, 0, m.cancel->consumer_tag);
        return true;
    case AMQP_BASIC_ACK_METHOD:
        in->kind = CODEC_ACK;
        in->tag = m.ack->delivery_tag;
        in->flag = m.ack->multiple != 0;
        return true;
    case AMQP_BASIC_NACK_METHOD:
        in->kind = CODEC_NACK;
        in->tag = m.nack->delivery_tag;
        in->flag = m.nack->multiple != 0;
        return true;
    default:
        return false;
    }
}

/* Methods whose number says it all. */
static enum codec_kind plain_kind(amqp_method_number_t id)
{
    switch (id) {
    case AMQP_CONNECTION_OPEN_OK_METHOD:
        return CODEC_OPEN_OK;
    case AMQP_CONNECTION_CLOSE_OK_METHOD:
        return CODEC_CLOSE_OK;
    case AMQP_CONNECTION_UNBLOCKED_METHOD:
        return CODEC_UNBLOCKED;
    case AMQP_CHANNEL_CLOSE_OK_METHOD:
        return CODEC_CHANNEL_CLOSE_OK;
    case AMQP_CHANNEL_OPEN_OK_METHOD:
    case AMQP_EXCHANGE_DECLARE_OK_METHOD:
    case AMQP_QUEUE_BIND_OK_METHOD:
    case AMQP_QUEUE_DELETE_OK_METHOD:
    case AMQP_BASIC_QOS_OK_METHOD:
    case AMQP_BASIC_CONSUME_OK_METHOD:
    case AMQP_BASIC_CANCEL_OK_METHOD:
    case AMQP_CONFIRM_SELECT_OK_METHOD:
        return CODEC_REPLY;
    default:
        return CODEC_OTHER;
    }
}

static void deliver_in(struct assembly *s, const amqp_basic_deliver_t *m)
{
    s->in.kind = CODEC_DELIVER;
    s->in.text = string_in(s->arena, m->consumer_tag);
    s->in.tag = m->delivery_tag;
    s->in.flag = m->redelivered != 0;
    s->in.message.exchange = string_in(s->arena, m->exchange);
    s->in.message.routing_key = string_in(s->arena, m->routing_key);
}

static void return_in(struct assembly *s, const amqp_basic_return_t *m)
{
    s->in.kind = CODEC_RETURN;
    s->in.code = m->reply_code;
    s->in.text = string_in(s->arena, m->reply_text);
    s->in.message.exchange = string_in(s->arena, m->exchange);
    s->in.message.routing_key = string_in(s->arena, m->routing_key);
}

static void finish_message(struct codec *c, struct assembly *s, struct codec_in *in)
{
    *in = s->in;
    in->message.body = s->body.data ? s->body.data : "";
    in->message.body_len = s->body.len;
    arena_free(c->given);
    c->given = s->arena;
    s->arena = NULL;
}

static int take_method(struct codec *c, struct assembly *s, const amqp_frame_t *frame,
                       struct codec_in *in, struct err *e)
{
    const amqp_method_t *method = &frame->payload.method;

    if (s->arena)
        return err_set(e, ERR_RETRY, 503, "the broker sent a method in the middle of a message");
    if (method->id == AMQP_BASIC_DELIVER_METHOD || method->id == AMQP_BASIC_RETURN_METHOD) {
        s->arena = arena_new();
        s->in = (struct codec_in){.channel = frame->channel};
        s->headed = false;
        if (method->id == AMQP_BASIC_DELIVER_METHOD)
            deliver_in(s, method->decoded);
        else
            return_in(s, method->decoded);
        return 0;
    }
    if (!method_in(c, in, method))
        in->kind = plain_kind(method->id);
    return 0;
}

static int take_header(struct codec *c, struct assembly *s, const amqp_frame_t *frame,
                       struct codec_in *in, struct err *e)
{
    if (!s->arena || s->headed || frame->payload.properties.class_id != AMQP_BASIC_CLASS)
        return err_set(e, ERR_RETRY, 503, "the broker sent a message header out of place");
    message_in(s->arena, &s->in.message, frame->payload.properties.decoded);
    s->headed = true;
    s->left = frame->payload.properties.body_size;
    s->in.oversized = s->left > c->message_max;
    buf_clear(&s->body);
    if (s->left == 0)
        finish_message(c, s, in);
    return 0;
}

static int take_body(struct codec *c, struct assembly *s, const amqp_frame_t *frame,
                     struct codec_in *in, struct err *e)
{
    amqp_bytes_t part = frame->payload.body_fragment;

    if (!s->arena || !s->headed || part.len > s->left)
        return err_set(e, ERR_RETRY, 503, "the broker sent more of a message than it announced");
    if (!s->in.oversized && buf_add(&s->body, part.bytes, part.len))
        return err_set(e, ERR_RETRY, 503, "a message outgrew its limit");
    s->left -= part.len;
    if (s->left == 0)
        finish_message(c, s, in);
    return 0;
}

static int take_frame(struct codec *c, struct assembly *s, const amqp_frame_t *frame,
                      struct codec_in *in, struct err *e)
{
    switch (frame->frame_type) {
    case AMQP_FRAME_METHOD:
        return take_method(c, s, frame, in, e);
    case AMQP_FRAME_HEADER:
        return take_header(c, s, frame, in, e);
    case AMQP_FRAME_BODY:
        return take_body(c, s, frame, in, e);
    default:
        in->kind = CODEC_HEARTBEAT;
        return 0;
    }
}

int codec_next(struct codec *c, const char *data, size_t n, size_t *used, struct codec_in *in,
               struct err *e)
{
    amqp_bytes_t input = {.len = n, .bytes = (void *)(uintptr_t)data};
    amqp_frame_t frame;
    int taken, failed;

    memset(in, 0, sizeof(*in));
    *used = 0;
    arena_free(c->given);
    c->given = NULL;
    while (in->kind == CODEC_NOTHING && input.len > 0) {
        taken = amqp_handle_input(c->state, input, &frame);
        if (taken < 0)
            return err_set(e, ERR_RETRY, 503, "the broker sent what is not AMQP 0-9-1: %s",
                           amqp_error_string2(taken));
        *used += (size_t)taken;
        input.bytes = (char *)input.bytes + taken;
        input.len -= (size_t)taken;
        if (frame.frame_type == 0)
            continue; /* the frame is not complete yet */
        if (frame.frame_type == PROTOCOL_HEADER)
            return err_set(e, ERR_RETRY, 503, "the broker speaks another version of AMQP");
        if (frame.channel >= CHANNELS)
            return err_set(e, ERR_RETRY, 503, "the broker used a channel that is not open");
        in->channel = frame.channel;
        failed = take_frame(c, &c->assembly[frame.channel], &frame, in, e);
        /* All of it is copied by now: rabbitmq-c would keep the frames of a large body till its
         * end, and of one that is thrown away too. */
        amqp_maybe_release_buffers_on_channel(c->state, frame.channel);
        if (failed)
            return -1;
    }
    return 0;
}

struct arena *codec_take(struct codec *c)
{
    struct arena *a = c->given;

    c->given = NULL;
    return a;
}

/* ---- frames out ---- */

static int put_frame(struct buf *out, uint8_t type, uint16_t channel, const void *payload, size_t n)
{
    const unsigned char head[7] = {type,
                                   (unsigned char)(channel >> 8),
                                   (unsigned char)channel,
                                   (unsigned char)(n >> 24),
                                   (unsigned char)(n >> 16),
                                   (unsigned char)(n >> 8),
                                   (unsigned char)n};

    if (out->max - out->len < n + FRAME_OVERHEAD)
        return -1;
    buf_add(out, head, sizeof(head));
    buf_add(out, payload, n);
    return buf_add(out, "\xce", 1);
}

static int put_method(struct codec *c, struct buf *out, uint16_t channel, amqp_method_number_t id,
                      void *method)
{
    amqp_bytes_t to = {.len = (size_t)c->frame_max - FRAME_OVERHEAD - 4, .bytes = c->scratch + 4};
    int n = amqp_encode_method(id, method, to);

    if (n < 0)
        return -1;
    c->scratch[0] = (char)(id >> 24);
    c->scratch[1] = (char)(id >> 16);
    c->scratch[2] = (char)(id >> 8);
    c->scratch[3] = (char)id;
    return put_frame(out, AMQP_FRAME_METHOD, channel, c->scratch, (size_t)n + 4);
}

int codec_put_protocol(struct buf *out)
{
    return buf_add(out, "AMQP\0\0\x09\x01", 8);
}

int codec_put_heartbeat(struct codec *c, struct buf *out)
{
    (void)c;
    return put_frame(out, AMQP_FRAME_HEARTBEAT, 0, "", 0);
}

int codec_put_start_ok(struct codec *c, struct buf *out, const struct mq_address *who,
                       const char *connection_name, const char *version)
{
    static const char *const capabilities[] = {"consumer_cancel_notify", "connection.blocked",
                                               "publisher_confirms", "basic.nack",
                                               "authentication_failure_close"};
    struct arena *a = arena_new();
    struct mq_table properties = {0}, can = {0};
    size_t i, user = strlen(who->user), password = strlen(who->password);
    char *response = arena_alloc(a, user + password + 2);
    amqp_connection_start_ok_t m = {.mechanism = bytes("PLAIN"),
                                    .locale = bytes("en_US"),
                                    .response = {.len = user + password + 2, .bytes = response}};
    int failed;

    memcpy(response + 1, who->user, user);
    memcpy(response + 2 + user, who->password, password);
    mq_table_put_string(a, &properties, "product", "chatfleet");
    mq_table_put_string(a, &properties, "version", version);
    mq_table_put_string(a, &properties, "connection_name", connection_name);
    for (i = 0; i < sizeof(capabilities) / sizeof(capabilities[0]); i++)
        mq_table_put_bool(a, &can, capabilities[i], true);
    mq_table_put_table(a, &properties, "capabilities", &can);
    table_out(a, &m.client_properties, &properties);
    failed = put_method(c, out, 0, AMQP_CONNECTION_START_OK_METHOD, &m);
    arena_free(a);
    return failed;
}

int codec_put_tune_ok(struct codec *c, struct buf *out, int channel_max, int frame_max,
                      int heartbeat)
{
    amqp_connection_tune_ok_t m = {.channel_max = (uint16_t)channel_max,
                                   .frame_max = (uint32_t)frame_max,
                                   .heartbeat = (uint16_t)heartbeat};

    return put_method(c, out, 0, AMQP_CONNECTION_TUNE_OK_METHOD, &m);
}

int codec_put_open(struct codec *c, struct buf *out, const char *vhost)
{
    amqp_connection_open_t m = {.virtual_host = bytes(vhost)};

    return put_method(c, out, 0, AMQP_CONNECTION_OPEN_METHOD, &m);
}

int codec_put_close(struct codec *c, struct buf *out, const char *why)
{
    amqp_connection_close_t m = {.reply_code = 200, .reply_text = bytes(why)};

    return put_method(c, out, 0, AMQP_CONNECTION_CLOSE_METHOD, &m);
}

int codec_put_close_ok(struct codec *c, struct buf *out)
{
    amqp_connection_close_ok_t m = {0};

    return put_method(c, out, 0, AMQP_CONNECTION_CLOSE_OK_METHOD, &m);
}

int codec_put_channel_open(struct codec *c, struct buf *out, uint16_t channel)
{
    amqp_channel_open_t m = {0};

    return put_method(c, out, channel, AMQP_CHANNEL_OPEN_METHOD, &m);
}

int codec_put_channel_close(struct codec *c, struct buf *out, uint16_t channel, const char *why)
{
    amqp_channel_close_t m = {.reply_code = 200, .reply_text = bytes(why)};

    return put_method(c, out, channel, AMQP_CHANNEL_CLOSE_METHOD, &m);
}

int codec_put_channel_close_ok(struct codec *c, struct buf *out, uint16_t channel)
{
    amqp_channel_close_ok_t m = {0};

    return put_method(c, out, channel, AMQP_CHANNEL_CLOSE_OK_METHOD, &m);
}

int codec_put_flow_ok(struct codec *c, struct buf *out, uint16_t channel, bool active)
{
    amqp_channel_flow_ok_t m = {.active = active};

    return put_method(c, out, channel, AMQP_CHANNEL_FLOW_OK_METHOD, &m);
}

int codec_put_confirm_select(struct codec *c, struct buf *out, uint16_t channel)
{
    amqp_confirm_select_t m = {0};

    return put_method(c, out, channel, AMQP_CONFIRM_SELECT_METHOD, &m);
}

int codec_put_exchange_declare(struct codec *c, struct buf *out, uint16_t channel, const char *name,
                               const char *type, bool passive, bool durable)
{
    amqp_exchange_declare_t m = {
        .exchange = bytes(name), .type = bytes(type), .passive = passive, .durable = durable};

    return put_method(c, out, channel, AMQP_EXCHANGE_DECLARE_METHOD, &m);
}

int codec_put_queue_declare(struct codec *c, struct buf *out, uint16_t channel, const char *name,
                            bool passive, bool durable, bool exclusive,
                            const struct mq_table *arguments)
{
    amqp_queue_declare_t m = {
        .queue = bytes(name), .passive = passive, .durable = durable, .exclusive = exclusive};
    struct arena *a = arena_new();
    int failed;

    if (arguments)
        table_out(a, &m.arguments, arguments);
    failed = put_method(c, out, channel, AMQP_QUEUE_DECLARE_METHOD, &m);
    arena_free(a);
    return failed;
}

int codec_put_queue_bind(struct codec *c, struct buf *out, uint16_t channel, const char *queue,
                         const char *exchange, const char *key)
{
    amqp_queue_bind_t m = {
        .queue = bytes(queue), .exchange = bytes(exchange), .routing_key = bytes(key)};

    return put_method(c, out, channel, AMQP_QUEUE_BIND_METHOD, &m);
}

int codec_put_queue_delete(struct codec *c, struct buf *out, uint16_t channel, const char *name)
{
    amqp_queue_delete_t m = {.queue = bytes(name)};

    return put_method(c, out, channel, AMQP_QUEUE_DELETE_METHOD, &m);
}

int codec_put_qos(struct codec *c, struct buf *out, uint16_t channel, uint16_t prefetch)
{
    amqp_basic_qos_t m = {.prefetch_count = prefetch};

    return put_method(c, out, channel, AMQP_BASIC_QOS_METHOD, &m);
}

int codec_put_consume(struct codec *c, struct buf *out, uint16_t channel, const char *queue,
                      const char *tag, bool no_ack)
{
    amqp_basic_consume_t m = {.queue = bytes(queue), .consumer_tag = bytes(tag), .no_ack = no_ack};

    return put_method(c, out, channel, AMQP_BASIC_CONSUME_METHOD, &m);
}

int codec_put_cancel(struct codec *c, struct buf *out, uint16_t channel, const char *tag)
{
    amqp_basic_cancel_t m = {.consumer_tag = bytes(tag)};

    return put_method(c, out, channel, AMQP_BASIC_CANCEL_METHOD, &m);
}

int codec_put_ack(struct codec *c, struct buf *out, uint16_t channel, uint64_t tag, bool multiple)
{
    amqp_basic_ack_t m = {.delivery_tag = tag, .multiple = multiple};

    return put_method(c, out, channel, AMQP_BASIC_ACK_METHOD, &m);
}

int codec_put_nack(struct codec *c, struct buf *out, uint16_t channel, uint64_t tag, bool requeue)
{
    amqp_basic_nack_t m = {.delivery_tag = tag, .requeue = requeue};

    return put_method(c, out, channel, AMQP_BASIC_NACK_METHOD, &m);
}

/* The content header: class, weight, body size, properties. Returns its length or -1. */
static int encode_header(struct codec *c, const struct mq_message *m)
{
    amqp_bytes_t to = {.len = (size_t)c->frame_max - FRAME_OVERHEAD - 12, .bytes = c->scratch + 12};
    struct arena *a = arena_new();
    amqp_basic_properties_t properties;
    int i, n;

    message_out(a, &properties, m);
    n = amqp_encode_properties(AMQP_BASIC_CLASS, &properties, to);
    arena_free(a);
    if (n < 0)
        return -1;
    memset(c->scratch, 0, 4);
    c->scratch[1] = AMQP_BASIC_CLASS;
    for (i = 0; i < 8; i++)
        c->scratch[4 + i] = (char)((uint64_t)m->body_len >> (56 - 8 * i));
    return n + 12;
}

int codec_put_publish(struct codec *c, struct buf *out, uint16_t channel,
                      const struct mq_message *m, bool mandatory, struct err *e)
{
    amqp_basic_publish_t method = {.exchange = bytes(m->exchange),
                                   .routing_key = bytes(m->routing_key),
                                   .mandatory = mandatory};
    size_t before = out->len, part, sent;
    int n;

    if (put_method(c, out, channel, AMQP_BASIC_PUBLISH_METHOD, &method))
        goto err;
    n = encode_header(c, m);
    if (n < 0 || put_frame(out, AMQP_FRAME_HEADER, channel, c->scratch, (size_t)n))
        goto err;
    for (sent = 0; sent < m->body_len; sent += part) {
        part = m->body_len - sent;
        if (part > (size_t)c->frame_max - FRAME_OVERHEAD)
            part = (size_t)c->frame_max - FRAME_OVERHEAD;
        if (put_frame(out, AMQP_FRAME_BODY, channel, m->body + sent, part))
            goto err;
    }
    return 0;
err:
    out->len = before;
    if (out->data)
        out->data[before] = '\0';
    return err_set(e, ERR_REJECT, 413, "the message and its headers do not fit into AMQP frames");
}
