/* params.c - parameters: collected in one text, sorted by reference, joined. */
#include "ibk/params.h"

#include "ibk/encode.h"
#include "ibk/url.h"

void ibk_params_init(struct ibk_params *params)
{
    ibk_buf_init(&params->text, IBK_PARAMS_MAX_TEXT);
    ibk_buf_init(&params->refs, IBK_PARAMS_MAX * sizeof(struct ibk_param_ref));
}

void ibk_params_lend(struct ibk_params *params, struct ibk_params_room *room)
{
    ibk_buf_lend(&params->text, &room->text);
    ibk_buf_lend(&params->refs, &room->refs);
}

void ibk_params_clean(struct ibk_params *params)
{
    ibk_buf_clean(&params->text);
    ibk_buf_clean(&params->refs);
}

size_t ibk_params_count(const struct ibk_params *params)
{
    return params->refs.len / sizeof(struct ibk_param_ref);
}

static struct ibk_param_ref ref_at(const struct ibk_params *params, size_t index)
{
    struct ibk_param_ref ref;
    memcpy(&ref, params->refs.data + index * sizeof ref, sizeof ref);
    return ref;
}

ibk_span ibk_params_peek_name(const struct ibk_params *params, size_t index)
{
    struct ibk_param_ref ref = ref_at(params, index);
    return ibk_span_of(params->text.data + ref.name_start, ref.name_len);
}

ibk_span ibk_params_peek_value(const struct ibk_params *params, size_t index)
{
    struct ibk_param_ref ref = ref_at(params, index);
    return ibk_span_of(params->text.data + ref.value_start, ref.value_len);
}

static ibk_code put_ref(struct ibk_params *params, struct ibk_param_ref ref, struct ibk_error *err)
{
    ibk_buf_put(&params->refs, ibk_span_of(&ref, sizeof ref));
    if (params->refs.broken == IBK_E_LIMIT) {
        return ibk_fail(err, IBK_E_LIMIT, "ibk_params_add", "more than %u parameters in one request", IBK_PARAMS_MAX);
    }
    return ibk_buf_check(&params->refs, "parameters", err);
}

ibk_code ibk_params_add(struct ibk_params *params, ibk_span name, ibk_span value, struct ibk_error *err)
{
    size_t start = params->text.len;
    ibk_buf_put(&params->text, name);
    ibk_buf_put(&params->text, value);
    ibk_code code = ibk_buf_check(&params->text, "text of the parameters", err);
    if (code != IBK_OK) {
        return code;
    }
    return put_ref(params, (struct ibk_param_ref){start, name.len, start + name.len, value.len}, err);
}

ibk_code ibk_params_add_text(struct ibk_params *params, const char *name, ibk_span value, struct ibk_error *err)
{
    return ibk_params_add(params, ibk_span_text(name), value, err);
}

ibk_code ibk_params_add_all(struct ibk_params *params, const struct ibk_params *more, struct ibk_error *err)
{
    size_t start = params->text.len;
    size_t count = ibk_params_count(more);
    ibk_buf_put(&params->text, ibk_buf_peek(&more->text));
    ibk_code code = ibk_buf_check(&params->text, "text of the parameters", err);
    for (size_t i = 0; code == IBK_OK && i < count; i++) {
        struct ibk_param_ref ref = ref_at(more, i);
        ref.name_start += start;
        ref.value_start += start;
        code = put_ref(params, ref, err);
    }
    return code;
}

/* One "name=value" of a query, decoded straight into the text. */
static ibk_code add_encoded_pair(struct ibk_params *params, ibk_span piece, struct ibk_error *err)
{
    const uint8_t *equals = memchr(piece.data, '=', piece.len);
    size_t name_len = equals == NULL ? piece.len : (size_t)(equals - piece.data);
    size_t value_start = equals == NULL ? piece.len : name_len + 1;
    struct ibk_param_ref ref = {.name_start = params->text.len};

    ibk_code code = ibk_percent_decode(ibk_span_of(piece.data, name_len), true, "a query name", &params->text, err);
    if (code != IBK_OK) {
        return code;
    }
    ref.value_start = params->text.len;
    ref.name_len = ref.value_start - ref.name_start;
    code = ibk_percent_decode(ibk_span_of(piece.data + value_start, piece.len - value_start), true, "a query value",
                              &params->text, err);
    if (code != IBK_OK) {
        return code;
    }
    ref.value_len = params->text.len - ref.value_start;
    return put_ref(params, ref, err);
}

ibk_code ibk_params_add_query(struct ibk_params *params, ibk_span query, struct ibk_error *err)
{
    for (size_t start = 0; start < query.len;) {
        const uint8_t *ampersand = memchr(query.data + start, '&', query.len - start);
        size_t end = ampersand == NULL ? query.len : (size_t)(ampersand - query.data);
        if (end > start) {
            ibk_code code = add_encoded_pair(params, ibk_span_of(query.data + start, end - start), err);
            if (code != IBK_OK) {
                return code;
            }
        }
        start = end + 1;
    }
    return IBK_OK;
}

void ibk_params_put_query(const struct ibk_params *params, struct ibk_buf *buf)
{
    size_t count = ibk_params_count(params);
    for (size_t i = 0; i < count; i++) {
        if (i > 0) {
            ibk_buf_put_byte(buf, '&');
        }
        ibk_percent_put(buf, ibk_params_peek_name(params, i));
        ibk_buf_put_byte(buf, '=');
        ibk_percent_put(buf, ibk_params_peek_value(params, i));
    }
}

ibk_code ibk_url_with_query(ibk_span url, const struct ibk_params *params, struct ibk_buf *out, struct ibk_error *err)
{
    struct ibk_url parts;
    ibk_code code = ibk_url_split(url, &parts, err);
    if (code != IBK_OK) {
        return code;
    }
    ibk_buf_put(out, url);
    if (ibk_params_count(params) > 0) {
        if (!parts.has_query) {
            ibk_buf_put_byte(out, '?');
        } else if (parts.query.len > 0 && parts.query.data[parts.query.len - 1] != '&') {
            ibk_buf_put_byte(out, '&');
        }
        ibk_params_put_query(params, out);
    }
    return ibk_buf_check(out, "URL with its query", err);
}

static bool is_before(const struct ibk_params *params, struct ibk_param_ref a, struct ibk_param_ref b)
{
    const uint8_t *text = params->text.data;
    int by_name = ibk_span_compare(ibk_span_of(text + a.name_start, a.name_len), ibk_span_of(text + b.name_start, b.name_len));
    if (by_name != 0) {
        return by_name < 0;
    }
    return ibk_span_compare(ibk_span_of(text + a.value_start, a.value_len), ibk_span_of(text + b.value_start, b.value_len)) < 0;
}

/* Where item belongs among the first `sorted` references of order, behind its equals. */
static size_t insertion_point(const struct ibk_params *params, const struct ibk_param_ref *order, size_t sorted,
                              struct ibk_param_ref item)
{
    size_t low = 0;
    size_t high = sorted;
    while (low < high) {
        /* The last one first: parameters mostly come in order. */
        size_t middle = high == sorted ? sorted - 1 : low + (high - low) / 2;
        if (is_before(params, item, order[middle])) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    return low;
}

#define RUN 16u /* parameters that are sorted by insertion; a signed request without a form has half a dozen */

static void sort_run(const struct ibk_params *params, struct ibk_param_ref *order, size_t count)
{
    for (size_t i = 1; i < count; i++) {
        struct ibk_param_ref item = order[i];
        size_t position = insertion_point(params, order, i, item);
        memmove(order + position + 1, order + position, (i - position) * sizeof *order);
        order[position] = item;
    }
}

/* Two sorted neighbours, from[0, middle) and from[middle, count), into one. */
static void merge(const struct ibk_params *params, const struct ibk_param_ref *from, size_t middle, size_t count,
                  struct ibk_param_ref *to)
{
    size_t left = 0;
    size_t right = middle;
    for (size_t i = 0; i < count; i++) {
        bool take_right = left == middle || (right < count && is_before(params, from[right], from[left]));
        to[i] = from[take_right ? right++ : left++];
    }
}

/* By merging, for a form may have thousands, and C11's qsort cannot be told the text. `other` is as large as `order`. */
static void sort(const struct ibk_params *params, struct ibk_param_ref *order, struct ibk_param_ref *other, size_t count)
{
    for (size_t start = 0; start < count; start += RUN) {
        sort_run(params, order + start, count - start < RUN ? count - start : RUN);
    }
    struct ibk_param_ref *from = order;
    struct ibk_param_ref *to = other;
    for (size_t width = RUN; width < count; width *= 2) {
        for (size_t start = 0; start < count; start += 2 * width) {
            size_t both = count - start < 2 * width ? count - start : 2 * width;
            merge(params, from + start, both < width ? both : width, both, to + start);
        }
        struct ibk_param_ref *swapped = from;
        from = to;
        to = swapped;
    }
    if (from != order) {
        memcpy(order, from, count * sizeof *order);
    }
}

ibk_code ibk_params_sorted(const struct ibk_params *params, struct ibk_params *out, struct ibk_error *err)
{
    size_t count = ibk_params_count(params);
    struct ibk_buf other;
    ibk_buf_init(&other, params->refs.limit);
    ibk_buf_put(&out->text, ibk_buf_peek(&params->text));
    ibk_buf_put(&out->refs, ibk_buf_peek(&params->refs));
    uint8_t *room = count > RUN ? ibk_buf_put_room(&other, params->refs.len) : NULL;
    ibk_code code = ibk_buf_check(&out->text, "text of the parameters", err);
    if (code == IBK_OK) {
        code = ibk_buf_check(&out->refs, "parameters", err);
    }
    if (code == IBK_OK) {
        code = ibk_buf_check(&other, "parameters", err);
    }
    if (code == IBK_OK) { /* memory of ibk_alloc and rooms suit any type */
        sort(params, (struct ibk_param_ref *)(void *)out->refs.data, (struct ibk_param_ref *)(void *)room, count);
    }
    ibk_buf_clean(&other);
    return code;
}

static ibk_code join_sorted(const struct ibk_params *params, struct ibk_buf *out, struct ibk_error *err)
{
    struct ibk_params_room room;
    struct ibk_params sorted;
    ibk_params_init(&sorted);
    ibk_params_lend(&sorted, &room);
    sorted.text.limit = params->text.limit;
    ibk_code code = ibk_params_sorted(params, &sorted, err);
    size_t count = code == IBK_OK ? ibk_params_count(&sorted) : 0;
    for (size_t i = 0; i < count; i++) {
        if (i > 0) {
            ibk_buf_put_byte(out, '&');
        }
        ibk_buf_put(out, ibk_params_peek_name(&sorted, i));
        ibk_buf_put_byte(out, '=');
        ibk_buf_put(out, ibk_params_peek_value(&sorted, i));
    }
    ibk_params_clean(&sorted);
    return code != IBK_OK ? code : ibk_buf_check(out, "normalised parameters", err);
}

/* RFC 5849 sorts the encoded names and values, which is another order where they hold reserved characters. */
static ibk_code encode_all(const struct ibk_params *params, struct ibk_params *encoded, struct ibk_error *err)
{
    size_t count = ibk_params_count(params);
    for (size_t i = 0; i < count; i++) {
        struct ibk_param_ref ref = {.name_start = encoded->text.len};
        ibk_percent_put(&encoded->text, ibk_params_peek_name(params, i));
        ref.value_start = encoded->text.len;
        ref.name_len = ref.value_start - ref.name_start;
        ibk_percent_put(&encoded->text, ibk_params_peek_value(params, i));
        ref.value_len = encoded->text.len - ref.value_start;
        ibk_code code = put_ref(encoded, ref, err);
        if (code != IBK_OK) {
            return code;
        }
    }
    return ibk_buf_check(&encoded->text, "encoded parameters", err);
}

ibk_code ibk_params_join(const struct ibk_params *params, enum ibk_join how, struct ibk_buf *out, struct ibk_error *err)
{
    if (how == IBK_JOIN_ONCE) {
        return join_sorted(params, out, err);
    }
    struct ibk_params encoded;
    ibk_params_init(&encoded);
    encoded.text.limit = 3 * IBK_PARAMS_MAX_TEXT; /* a triplet for every byte */
    ibk_code code = encode_all(params, &encoded, err);
    if (code == IBK_OK) {
        code = join_sorted(&encoded, out, err);
    }
    ibk_params_clean(&encoded);
    return code;
}
