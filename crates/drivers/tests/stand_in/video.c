/* Plays cameras to a program that was started with this library before it (LD_PRELOAD), so that the program's own way to the
 * kernel, Video for Linux 2, is tested where there is neither a camera nor a kernel module that plays one.
 *
 *     cc -shared -fPIC -O2 -o video.so video.c -ldl -lpthread
 *     SINEW_STAND_IN=FOLDER LD_PRELOAD=./video.so PROGRAM
 *
 * Paths that begin with /dev/video, /dev/v4l and /sys/class/video4linux, and those of /sys/devices that are there, lie below
 * FOLDER. A camera is a text file FOLDER/dev/videoN of lines `key = value`, read again at each picture and each call, so that
 * whoever rewrites it (by a rename, so that no half file is read) breaks the camera while it is in use:
 *
 *     name, bus          what it says of itself
 *     id                 which camera it is; when another one has its file, it is gone
 *     mode = YUYV 640x480 30 15          a format, a size and its rates, once for each; the first is the default
 *     control = gain 0 255 1 64          a control: least, most, step, default
 *     jpegs = PATH, jpeg_count = 60      MJPG pictures are PATH/640x480/000000.jpg and so on by number, modulo the count
 *     lit_jpegs = PATH                   the same while the LED is lit
 *     fps                the rate that it really has
 *     ignore_size, ignore_fps, stuck_controls, forgets_controls = 1   does not do what it is asked for, or not once it streams
 *     freeze, vanish, busy, denied, no_bandwidth, metadata = 1    no pictures; ENODEV; EBUSY; EACCES; ENOSPC; no camera's node
 *     lost_frames, half_frames, error_frames, empty_frames, corrupt = N   every Nth picture is so
 *     delay_ms, jitter_ms       from a picture's time stamp to its arrival: always, and up to so much more by chance
 *     clock = realtime | none   what its stamps are of, instead of the monotonic clock
 *     pad = N                   bytes after each row
 *     led_period_ms, led_on_ms  a square in the middle is bright while CLOCK_MONOTONIC modulo the first is below the second
 *
 * A picture is a moving gradient. Its number stands in its first rows as 32 blocks, white for 1, the lowest bit first; below
 * stands in the same way when it was taken, in units of 100 us of CLOCK_MONOTONIC. In Z16 the gradient is of distances, 16 mm
 * for each step of brightness, and its last rows are unknown (0) in the left half and 12 m away in the right one. FOLDER/log/videoN gets a line `frame
 * NUMBER TAKEN_NS WHAT` for each picture that it takes, and `control NAME VALUE` for each that is set.
 *
 * A device is an eventfd that counts the pictures that are ready, so that poll, select and epoll need no part in this. */

#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/videodev2.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

/* The next library's function of that name. */
#define REAL(result, name, ...) ((result(*)(__VA_ARGS__))dlsym(RTLD_NEXT, name))

#define MOST_DEVICES 64
#define MOST_MODES 64
#define MOST_BUFFERS 8
#define SECOND 1000000000LL

/* ---- What a camera's file says ---- */
struct mode {
    uint32_t four_cc, width, height;
    int rates;
    double rate[8];
};

struct offered {
    uint32_t id;
    int least, most, step, initial;
};

/* Keys by what they hold; each is a field of its own name. */
#define TEXTS(of) of(name, 32) of(bus, 32) of(id, 64) of(jpegs, 512) of(lit_jpegs, 512) of(clock, 16)
#define REALS(of) of(fps) of(delay_ms) of(jitter_ms) of(led_period_ms) of(led_on_ms)
#define COUNTS(of) of(ignore_size) of(ignore_fps) of(stuck_controls) of(freeze) of(vanish) of(busy) of(denied) of(no_bandwidth) \
    of(metadata) of(lost_frames) of(half_frames) of(error_frames) of(empty_frames) of(corrupt) of(pad) of(jpeg_count) \
    of(forgets_controls)

struct config {
#define TEXT(key, size) char key[size];
#define NUMBER(key) double key;
#define COUNT(key) int key;
    TEXTS(TEXT) REALS(NUMBER) COUNTS(COUNT)
    struct mode mode[MOST_MODES];
    struct offered control[16];
    int modes, controls;
};

static const struct { const char *key, *name; uint32_t id, type; } CONTROLS[] = {
    {"brightness", "Brightness", V4L2_CID_BRIGHTNESS, V4L2_CTRL_TYPE_INTEGER},
    {"white_balance_automatic", "White Balance, Automatic", V4L2_CID_AUTO_WHITE_BALANCE, V4L2_CTRL_TYPE_BOOLEAN},
    {"gain_automatic", "Gain, Automatic", V4L2_CID_AUTOGAIN, V4L2_CTRL_TYPE_BOOLEAN},
    {"gain", "Gain", V4L2_CID_GAIN, V4L2_CTRL_TYPE_INTEGER},
    {"power_line_frequency", "Power Line Frequency", V4L2_CID_POWER_LINE_FREQUENCY, V4L2_CTRL_TYPE_MENU},
    {"white_balance_temperature", "White Balance Temperature", V4L2_CID_WHITE_BALANCE_TEMPERATURE, V4L2_CTRL_TYPE_INTEGER},
    {"auto_exposure", "Auto Exposure", V4L2_CID_EXPOSURE_AUTO, V4L2_CTRL_TYPE_MENU},
    {"exposure_time_absolute", "Exposure Time, Absolute", V4L2_CID_EXPOSURE_ABSOLUTE, V4L2_CTRL_TYPE_INTEGER},
    {"exposure_dynamic_framerate", "Exposure, Dynamic Framerate", V4L2_CID_EXPOSURE_AUTO_PRIORITY, V4L2_CTRL_TYPE_BOOLEAN},
    {"focus_absolute", "Focus, Absolute", V4L2_CID_FOCUS_ABSOLUTE, V4L2_CTRL_TYPE_INTEGER},
    {"focus_automatic_continuous", "Focus, Automatic Continuous", V4L2_CID_FOCUS_AUTO, V4L2_CTRL_TYPE_BOOLEAN},
};
#define KNOWN_CONTROLS (int)(sizeof CONTROLS / sizeof *CONTROLS)

static const char *root(void) { return getenv("SINEW_STAND_IN"); }

static void read_mode(struct config *config, const char *value) {
    struct mode *mode = &config->mode[config->modes];
    char name[5] = "    ";
    int read = 0;
    if (config->modes == MOST_MODES || sscanf(value, "%4s %ux%u%n", name, &mode->width, &mode->height, &read) != 3) return;
    for (int i = 0; i < 4; i++) name[i] = name[i] ? name[i] : ' ';
    mode->four_cc = v4l2_fourcc(name[0], name[1], name[2], name[3]);
    for (char *rest = (char *)value + read; mode->rates < 8; mode->rates++) {
        char *end;
        mode->rate[mode->rates] = strtod(rest, &end);
        if (end == rest) break;
        rest = end;
    }
    config->modes += mode->rates > 0;
}

static void read_control(struct config *config, const char *value) {
    struct offered *control = &config->control[config->controls];
    char name[64];
    if (config->controls == 16) return;
    if (sscanf(value, "%63s %d %d %d %d", name, &control->least, &control->most, &control->step, &control->initial) != 5) return;
    for (int i = 0; i < KNOWN_CONTROLS; i++)
        if (strcmp(CONTROLS[i].key, name) == 0) control->id = CONTROLS[i].id;
    config->controls += control->id != 0;
}

/* Fills `config` from FOLDER/dev/videoNUMBER; 0, or an errno. */
static int read_config(int number, struct config *config) {
    char path[PATH_MAX], line[1024], key[64], value[900];
    memset(config, 0, sizeof *config);
    snprintf(path, sizeof path, "%s/dev/video%d", root(), number);
    FILE *file = REAL(FILE *, "fopen", const char *, const char *)(path, "re");
    if (!file) return errno;
    while (fgets(line, sizeof line, file)) {
        if (sscanf(line, " %63[a-z_] = %899[^\n]", key, value) != 2) continue;
        if (strcmp(key, "mode") == 0) read_mode(config, value);
        if (strcmp(key, "control") == 0) read_control(config, value);
#define READ_TEXT(field, size) if (strcmp(key, #field) == 0) memcpy(config->field, value, strnlen(value, size - 1));
#define READ_NUMBER(field) if (strcmp(key, #field) == 0) config->field = atof(value);
        TEXTS(READ_TEXT) REALS(READ_NUMBER) COUNTS(READ_NUMBER)
    }
    fclose(file);
    return 0;
}

/* ---- A device that is open ---- */
struct buffer {
    enum { TAKEN, QUEUED, DONE } state;
    uint64_t order; /* of being queued, then of being done */
    struct v4l2_buffer filled;
};

struct device {
    int used, fd, number, file, blocks, gone, streaming, owns;
    char id[64];
    struct mode mode; /* the first rate is the one that is set */
    struct buffer buffer[MOST_BUFFERS];
    int buffers, memory;
    size_t length;
    uint8_t *bytes;
    uint64_t orders;
    uint32_t sequence;
    unsigned chance;
    pthread_t thread;
    pthread_cond_t changed;
};

static struct device devices[MOST_DEVICES];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
/* Cameras keep these when a program closes them. */
static struct kept { int number; uint32_t id; int value; } kept[256];
static int kepts;

static int64_t now_ns(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return now.tv_sec * SECOND + now.tv_nsec;
}

static void say(const struct device *device, const char *format, ...) {
    char path[PATH_MAX], line[256];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    snprintf(path, sizeof path, "%s/log/video%d", root(), device->number);
    int log = REAL(int, "open", const char *, int, ...)(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
    if (log < 0) return;
    if (write(log, line, length) != length) perror(path);
    REAL(int, "close", int)(log);
}

static struct device *of_fd(int fd) {
    for (int i = 0; fd >= 0 && i < MOST_DEVICES; i++)
        if (devices[i].used && devices[i].fd == fd) return &devices[i];
    return NULL;
}

static uint32_t stride(const struct mode *mode, const struct config *config) {
    switch (mode->four_cc) {
    case V4L2_PIX_FMT_MJPEG: return 0;
    case V4L2_PIX_FMT_NV12: case V4L2_PIX_FMT_GREY: return mode->width + config->pad;
    default: return 2 * mode->width + config->pad;
    }
}

static uint32_t image_bytes(const struct mode *mode, const struct config *config) {
    uint32_t row = stride(mode, config);
    if (row == 0) return 2 * mode->width * mode->height;
    return row * (mode->four_cc == V4L2_PIX_FMT_NV12 ? mode->height + (mode->height + 1) / 2 : mode->height);
}

/* ---- Pictures ---- */
static int is_lit(const struct config *config, int64_t taken_ns) {
    int64_t period = config->led_period_ms * 1e6;
    return period > 0 && taken_ns % period < config->led_on_ms * 1e6;
}

/* How bright each pixel of a row is. */
static void row_of(const struct mode *mode, const struct config *config, uint32_t number, int64_t taken_ns, uint32_t y, uint8_t *row) {
    uint32_t width = mode->width, block = width / 32 ? width / 32 : 1, led = width / 8;
    uint32_t bits = y < block ? number : (uint32_t)(taken_ns / 100000);
    for (uint32_t x = 0; x < width; x++) row[x] = 40 + (x + y / 2 + 4 * number) % 160;
    if (y < 2 * block)
        for (uint32_t x = 0; x < 32 * block && x < width; x++) row[x] = bits >> (x / block) & 1 ? 235 : 16;
    else if (y + led / 2 >= mode->height / 2 && y < mode->height / 2 + led / 2)
        memset(row + width / 2 - led / 2, is_lit(config, taken_ns) ? 235 : 16, led);
}

static size_t draw(const struct mode *mode, const struct config *config, uint32_t number, int64_t taken_ns, uint8_t *bytes, size_t room) {
    if (mode->four_cc == V4L2_PIX_FMT_MJPEG) {
        char path[PATH_MAX];
        const char *folder = is_lit(config, taken_ns) && config->lit_jpegs[0] ? config->lit_jpegs : config->jpegs;
        uint32_t which = config->jpeg_count > 0 ? number % config->jpeg_count : 0;
        snprintf(path, sizeof path, "%s/%ux%u/%06u.jpg", folder, mode->width, mode->height, which);
        int file = REAL(int, "open", const char *, int, ...)(path, O_RDONLY | O_CLOEXEC);
        ssize_t got = file < 0 ? 0 : read(file, bytes, room);
        if (file >= 0) REAL(int, "close", int)(file);
        return got < 0 ? 0 : got;
    }
    uint8_t row[mode->width + 1];
    uint32_t bytes_per_line = stride(mode, config);
    for (uint32_t y = 0; y < mode->height; y++) {
        uint8_t *to = bytes + (size_t)y * bytes_per_line, tint = 64 + 128 * y / mode->height;
        row_of(mode, config, number, taken_ns, y, row);
        for (uint32_t x = 0; x < mode->width; x++) {
            uint16_t wide = mode->four_cc == V4L2_PIX_FMT_Z16 ? row[x] * 16 : row[x] << 8;
            if (mode->four_cc == V4L2_PIX_FMT_Z16 && y + mode->width / 32 >= mode->height) wide = x < mode->width / 2 ? 0 : 12000;
            switch (mode->four_cc) {
            case V4L2_PIX_FMT_YUYV: to[2 * x] = row[x]; to[2 * x + 1] = x % 2 ? 256 - tint : tint; break;
            case V4L2_PIX_FMT_Y16: case V4L2_PIX_FMT_Z16: to[2 * x] = wide; to[2 * x + 1] = wide >> 8; break;
            default: to[x] = row[x];
            }
        }
        if (mode->four_cc == V4L2_PIX_FMT_NV12 && y % 2 == 0) {
            uint8_t *colour = bytes + (size_t)(mode->height + y / 2) * bytes_per_line;
            for (uint32_t x = 0; x < mode->width; x++) colour[x] = x % 2 ? 256 - tint : tint;
        }
    }
    return image_bytes(mode, config);
}

static int is_nth(int n, uint32_t number) { return n > 0 && number % n == (uint32_t)n - 1; }

static struct buffer *oldest(struct device *device, int state) {
    struct buffer *found = NULL;
    for (struct buffer *buffer = device->buffer; buffer < device->buffer + device->buffers; buffer++)
        if ((int)buffer->state == state && (!found || buffer->order < found->order)) found = buffer;
    return found;
}

/* A picture arrives: in the buffer that waits longest, or nowhere. */
static void deliver(struct device *device, const struct config *config, int64_t taken_ns) {
    uint32_t number = device->sequence++;
    struct buffer *buffer = oldest(device, QUEUED);
    const char *what = "whole";
    if (is_nth(config->lost_frames, number) || !buffer) return say(device, "frame %u %lld lost\n", number, (long long)taken_ns);
    uint8_t *bytes = device->bytes + (buffer - device->buffer) * device->length;
    size_t used = draw(&device->mode, config, number, taken_ns, bytes, device->length);
    int is_error = is_nth(config->error_frames, number);
    if (is_nth(config->corrupt, number)) {
        what = "corrupt";
        for (size_t i = used / 4; i < used / 2; i++) bytes[i] = rand_r(&device->chance);
    }
    if (is_error || is_nth(config->half_frames, number)) what = is_error ? "error" : "half", used /= 2;
    if (is_nth(config->empty_frames, number)) what = "empty", used = 0;
    int64_t stamp = taken_ns;
    uint32_t flags = V4L2_BUF_FLAG_MAPPED | V4L2_BUF_FLAG_TSTAMP_SRC_SOE | (is_error ? V4L2_BUF_FLAG_ERROR : 0);
    if (strcmp(config->clock, "none") == 0) stamp = 0;
    else flags |= V4L2_BUF_FLAG_TIMESTAMP_MONOTONIC;
    if (strcmp(config->clock, "realtime") == 0) stamp += now_ns(CLOCK_REALTIME) - now_ns(CLOCK_MONOTONIC);
    struct v4l2_buffer *filled = &buffer->filled;
    filled->bytesused = used, filled->flags = flags, filled->field = V4L2_FIELD_NONE, filled->sequence = number;
    filled->timestamp = (struct timeval){stamp / SECOND, stamp % SECOND / 1000};
    buffer->state = DONE, buffer->order = ++device->orders;
    say(device, "frame %u %lld %s\n", number, (long long)taken_ns, what);
    eventfd_write(device->fd, 1);
    pthread_cond_broadcast(&device->changed);
}

/* Whether the camera is still there; who waits for it learns of it when it is not. */
static int is_there(struct device *device, struct config *config) {
    int error = read_config(device->number, config);
    if (!device->gone && (error || config->vanish || strcmp(config->id, device->id) != 0)) {
        device->gone = 1;
        eventfd_write(device->fd, 1 << 30);
        pthread_cond_broadcast(&device->changed);
    }
    return !device->gone;
}

/* Takes pictures at the camera's own times, whoever is late. */
static void *take_pictures(void *argument) {
    struct device *device = argument;
    struct config config;
    pthread_mutex_lock(&lock);
    int64_t taken_ns = now_ns(CLOCK_MONOTONIC);
    while (device->streaming && is_there(device, &config)) {
        double fps = config.fps > 0 ? config.fps : device->mode.rate[0];
        taken_ns += SECOND / fps;
        int64_t due_ns = taken_ns + config.delay_ms * 1e6 + config.jitter_ms * 1e6 * rand_r(&device->chance) / RAND_MAX;
        struct timespec due = {due_ns / SECOND, due_ns % SECOND};
        while (device->streaming && pthread_cond_timedwait(&device->changed, &lock, &due) != ETIMEDOUT) {}
        if (!device->streaming || !is_there(device, &config)) break;
        if (config.freeze) taken_ns = now_ns(CLOCK_MONOTONIC);
        else deliver(device, &config, taken_ns);
    }
    pthread_mutex_unlock(&lock);
    return NULL;
}

static void stop(struct device *device) {
    eventfd_t ready;
    if (!device->streaming) return;
    device->streaming = 0;
    pthread_cond_broadcast(&device->changed);
    pthread_mutex_unlock(&lock);
    pthread_join(device->thread, NULL);
    pthread_mutex_lock(&lock);
    while (!device->gone && eventfd_read(device->fd, &ready) == 0) {}
    for (int i = 0; i < device->buffers; i++) device->buffer[i].state = TAKEN;
}

static void forget_buffers(struct device *device) {
    stop(device);
    if (device->buffers > 0) {
        munmap(device->bytes, device->buffers * device->length);
        REAL(int, "close", int)(device->memory);
    }
    device->buffers = 0;
    /* Another process, or another one that opened it, may have it now. */
    if (device->owns) flock(device->file, LOCK_UN);
    device->owns = 0;
}

/* ---- The kernel's answers: 0, or an errno ---- */
static struct v4l2_fract interval_of(double rate) { return (struct v4l2_fract){1000, rate * 1000 + 0.5}; }

static int enumerate(const struct config *config, unsigned long request, void *argument) {
    struct v4l2_fmtdesc *format = argument;
    struct v4l2_frmsizeenum *size = argument;
    struct v4l2_frmivalenum *interval = argument;
    uint32_t index = 0;
    for (int i = 0; i < config->modes; i++) {
        const struct mode *mode = &config->mode[i];
        int before = 0;
        while (config->mode[before].four_cc != mode->four_cc) before++;
        if (request == VIDIOC_ENUM_FMT && before == i && index++ == format->index) {
            format->pixelformat = mode->four_cc;
            format->flags = mode->four_cc == V4L2_PIX_FMT_MJPEG ? V4L2_FMT_FLAG_COMPRESSED : 0;
            snprintf((char *)format->description, sizeof format->description, "%.4s", (const char *)&mode->four_cc);
            return 0;
        }
        if (request == VIDIOC_ENUM_FRAMESIZES && mode->four_cc == size->pixel_format && index++ == size->index) {
            size->type = V4L2_FRMSIZE_TYPE_DISCRETE;
            size->discrete = (struct v4l2_frmsize_discrete){mode->width, mode->height};
            return 0;
        }
        if (request == VIDIOC_ENUM_FRAMEINTERVALS && mode->four_cc == interval->pixel_format && mode->width == interval->width &&
            mode->height == interval->height && interval->index < (uint32_t)mode->rates) {
            interval->type = V4L2_FRMIVAL_TYPE_DISCRETE;
            interval->discrete = interval_of(mode->rate[interval->index]);
            return 0;
        }
    }
    return EINVAL;
}

/* As drivers do, what is not there becomes what is next to it. */
static struct mode nearest(const struct config *config, const struct v4l2_pix_format *asked) {
    const struct mode *best = NULL;
    int64_t least = INT64_MAX;
    for (int i = 0; i < config->modes; i++) {
        const struct mode *mode = &config->mode[i];
        int64_t off = llabs((int64_t)mode->width - asked->width) + llabs((int64_t)mode->height - asked->height);
        if (config->ignore_size) off = i;
        if (mode->four_cc != asked->pixelformat) off += INT32_MAX;
        if (off < least) least = off, best = mode;
    }
    return *best;
}

static void describe(const struct mode *mode, const struct config *config, struct v4l2_pix_format *pix) {
    *pix = (struct v4l2_pix_format){.width = mode->width, .height = mode->height, .pixelformat = mode->four_cc, .field = V4L2_FIELD_NONE,
        .bytesperline = stride(mode, config), .sizeimage = image_bytes(mode, config), .colorspace = V4L2_COLORSPACE_SRGB};
}

static void set_rate(struct device *device, const struct config *config, struct v4l2_fract asked) {
    double wanted = asked.numerator && asked.denominator ? (double)asked.denominator / asked.numerator : 0;
    for (int i = 0; i < config->modes && wanted > 0 && !config->ignore_fps; i++) {
        const struct mode *mode = &config->mode[i];
        if (mode->four_cc != device->mode.four_cc || mode->width != device->mode.width || mode->height != device->mode.height) continue;
        double best = mode->rate[0];
        for (int j = 1; j < mode->rates; j++)
            if (llabs((int64_t)(1e6 * (mode->rate[j] - wanted))) < llabs((int64_t)(1e6 * (best - wanted)))) best = mode->rate[j];
        device->mode.rate[0] = best;
    }
}

static int request_buffers(struct device *device, const struct config *config, struct v4l2_requestbuffers *request) {
    if (request->type != V4L2_BUF_TYPE_VIDEO_CAPTURE || request->memory != V4L2_MEMORY_MMAP) return EINVAL;
    if (config->busy || (!device->owns && flock(device->file, LOCK_EX | LOCK_NB) != 0)) return EBUSY;
    device->owns = 1;
    if (device->streaming) return EBUSY;
    forget_buffers(device);
    if (request->count == 0) return 0;
    flock(device->file, LOCK_EX | LOCK_NB);
    device->owns = 1;
    request->count = request->count < 2 ? 2 : request->count > MOST_BUFFERS ? MOST_BUFFERS : request->count;
    request->capabilities = V4L2_BUF_CAP_SUPPORTS_MMAP;
    device->length = (image_bytes(&device->mode, config) + 4095) / 4096 * 4096;
    device->memory = memfd_create("camera", MFD_CLOEXEC);
    if (device->memory < 0 || ftruncate(device->memory, request->count * device->length) != 0) return ENOMEM;
    device->bytes = REAL(void *, "mmap", void *, size_t, int, int, int, off_t)(
        NULL, request->count * device->length, PROT_READ | PROT_WRITE, MAP_SHARED, device->memory, 0);
    if (device->bytes == MAP_FAILED) return ENOMEM;
    device->buffers = request->count;
    for (int i = 0; i < device->buffers; i++) device->buffer[i].state = TAKEN;
    return 0;
}

static int call_buffer(struct device *device, unsigned long request, struct v4l2_buffer *asked) {
    if (asked->type != V4L2_BUF_TYPE_VIDEO_CAPTURE) return EINVAL;
    if (request == VIDIOC_DQBUF) {
        eventfd_t ready;
        struct buffer *done;
        if (!device->streaming) return EINVAL;
        while (!(done = oldest(device, DONE))) {
            if (device->gone) return ENODEV;
            if (!device->blocks) return EAGAIN;
            pthread_cond_wait(&device->changed, &lock);
        }
        eventfd_read(device->fd, &ready);
        *asked = done->filled;
        done->state = TAKEN;
        return 0;
    }
    if (asked->index >= (uint32_t)device->buffers) return EINVAL;
    struct buffer *buffer = &device->buffer[asked->index];
    if (request == VIDIOC_QBUF) {
        if (buffer->state != TAKEN) return EINVAL;
        buffer->state = QUEUED, buffer->order = ++device->orders;
    }
    buffer->filled = (struct v4l2_buffer){.index = asked->index, .type = V4L2_BUF_TYPE_VIDEO_CAPTURE, .memory = V4L2_MEMORY_MMAP,
        .length = device->length, .m.offset = asked->index * device->length};
    *asked = buffer->filled;
    asked->flags = V4L2_BUF_FLAG_MAPPED | (buffer->state == QUEUED ? V4L2_BUF_FLAG_QUEUED : 0);
    return 0;
}

static int *kept_value(const struct device *device, const struct offered *control) {
    for (int i = 0; i < kepts; i++)
        if (kept[i].number == device->number && kept[i].id == control->id) return &kept[i].value;
    kepts = kepts < 256 ? kepts + 1 : 256;
    kept[kepts - 1] = (struct kept){device->number, control->id, control->initial};
    return &kept[kepts - 1].value;
}

static int call_control(struct device *device, const struct config *config, unsigned long request, void *argument) {
    struct v4l2_queryctrl *query = argument;
    struct v4l2_control *control = argument;
    int wants_next = request == VIDIOC_QUERYCTRL && query->id & V4L2_CTRL_FLAG_NEXT_CTRL;
    uint32_t id = wants_next ? query->id & ~(V4L2_CTRL_FLAG_NEXT_CTRL | V4L2_CTRL_FLAG_NEXT_COMPOUND) : control->id;
    const struct offered *found = NULL;
    for (int i = 0; i < config->controls; i++) {
        const struct offered *offered = &config->control[i];
        if (wants_next ? offered->id > id && (!found || offered->id < found->id) : offered->id == id) found = offered;
    }
    if (!found) return EINVAL;
    int known = 0, *value = kept_value(device, found);
    while (CONTROLS[known].id != found->id) known++;
    if (request == VIDIOC_QUERYCTRL) {
        *query = (struct v4l2_queryctrl){.id = found->id, .type = CONTROLS[known].type, .minimum = found->least,
                                         .maximum = found->most, .step = found->step, .default_value = found->initial};
        snprintf((char *)query->name, sizeof query->name, "%s", CONTROLS[known].name);
        return 0;
    }
    if (request == VIDIOC_S_CTRL) {
        int wanted = control->value < found->least ? found->least : control->value > found->most ? found->most : control->value;
        /* Webcams have exposure by hand and by the camera's choice of the time alone. */
        if (found->id == V4L2_CID_EXPOSURE_AUTO && wanted != V4L2_EXPOSURE_MANUAL && wanted != V4L2_EXPOSURE_APERTURE_PRIORITY) return EINVAL;
        if (found->step > 1) wanted = found->least + (wanted - found->least) / found->step * found->step;
        if (!config->stuck_controls) *value = wanted;
        say(device, "control %s %d\n", CONTROLS[known].key, *value);
    }
    control->value = *value;
    return 0;
}

static int call(struct device *device, unsigned long request, void *argument) {
    struct config config;
    if (!is_there(device, &config)) return ENODEV;
    struct v4l2_capability *capability = argument;
    struct v4l2_format *format = argument;
    struct v4l2_streamparm *parameters = argument;
    switch (request) {
    case VIDIOC_QUERYCAP:
        *capability = (struct v4l2_capability){.driver = "stand-in",
            .capabilities = V4L2_CAP_DEVICE_CAPS | V4L2_CAP_STREAMING | V4L2_CAP_VIDEO_CAPTURE | V4L2_CAP_META_CAPTURE,
            .device_caps = V4L2_CAP_STREAMING | (config.metadata ? V4L2_CAP_META_CAPTURE : V4L2_CAP_VIDEO_CAPTURE)};
        memcpy(capability->card, config.name, sizeof capability->card);
        memcpy(capability->bus_info, config.bus, sizeof capability->bus_info);
        return 0;
    case VIDIOC_ENUM_FMT: case VIDIOC_ENUM_FRAMESIZES: case VIDIOC_ENUM_FRAMEINTERVALS: return enumerate(&config, request, argument);
    case VIDIOC_QUERYCTRL: case VIDIOC_G_CTRL: case VIDIOC_S_CTRL: return call_control(device, &config, request, argument);
    }
    if (config.metadata || config.modes == 0) return EINVAL;
    if (device->mode.rates == 0) device->mode = config.mode[0];
    switch (request) {
    case VIDIOC_S_FMT: case VIDIOC_TRY_FMT: case VIDIOC_G_FMT:
        if (format->type != V4L2_BUF_TYPE_VIDEO_CAPTURE) return EINVAL;
        if (request == VIDIOC_S_FMT && (config.busy || device->buffers > 0)) return EBUSY;
        struct mode mode = request == VIDIOC_G_FMT ? device->mode : nearest(&config, &format->fmt.pix);
        if (request == VIDIOC_S_FMT) device->mode = mode;
        describe(&mode, &config, &format->fmt.pix);
        return 0;
    case VIDIOC_S_PARM: case VIDIOC_G_PARM:
        if (parameters->type != V4L2_BUF_TYPE_VIDEO_CAPTURE) return EINVAL;
        if (request == VIDIOC_S_PARM && device->streaming) return EBUSY;
        if (request == VIDIOC_S_PARM) set_rate(device, &config, parameters->parm.capture.timeperframe);
        parameters->parm.capture =
            (struct v4l2_captureparm){.capability = V4L2_CAP_TIMEPERFRAME, .timeperframe = interval_of(device->mode.rate[0])};
        return 0;
    case VIDIOC_REQBUFS: return request_buffers(device, &config, argument);
    case VIDIOC_QUERYBUF: case VIDIOC_QBUF: case VIDIOC_DQBUF: return call_buffer(device, request, argument);
    case VIDIOC_STREAMON:
        if (device->buffers == 0) return EINVAL;
        if (config.no_bandwidth) return ENOSPC;
        if (device->streaming) return 0;
        device->streaming = 1, device->sequence = 0, kepts = config.forgets_controls ? 0 : kepts;
        return pthread_create(&device->thread, NULL, take_pictures, device);
    case VIDIOC_STREAMOFF: stop(device); return 0;
    case VIDIOC_G_INPUT: case VIDIOC_S_INPUT: *(int *)argument = 0; return 0;
    case VIDIOC_EXPBUF: return EINVAL;
    default: return ENOTTY;
    }
}

/* ---- What the program calls ---- */
/* Where a path really is: itself, or in `place`. */
static const char *moved(const char *path, char place[PATH_MAX]) {
    static const char *const OURS[] = {"/dev/video", "/dev/v4l", "/sys/class/video4linux"};
    if (!root() || !path || path[0] != '/') return path;
    snprintf(place, PATH_MAX, "%s%s", root(), path);
    for (int i = 0; i < 3; i++)
        if (strncmp(path, OURS[i], strlen(OURS[i])) == 0) return place;
    if (strncmp(path, "/sys/devices/", 13) != 0) return path;
    return REAL(int, "access", const char *, int)(place, F_OK) == 0 ? place : path;
}

/* The number of the camera behind a path that was moved; -1 for other files. */
static int camera_at(const char *place) {
    char folder[PATH_MAX], found[PATH_MAX], dev[PATH_MAX];
    int number, end = 0;
    char *(*real)(const char *, char *) = REAL(char *, "realpath", const char *, char *);
    snprintf(folder, sizeof folder, "%s/dev", root());
    if (!real(folder, dev) || !real(place, found)) return -1;
    size_t length = strlen(dev);
    if (strncmp(found, dev, length) != 0 || sscanf(found + length, "/video%d%n", &number, &end) != 1) return -1;
    return found[length + end] == 0 ? number : -1;
}

static int open_camera(int number, const char *place, int flags) {
    struct config config;
    int error = read_config(number, &config);
    if (!error) error = config.denied ? EACCES : config.vanish ? ENODEV : 0;
    pthread_mutex_lock(&lock);
    struct device *device = devices;
    while (device < devices + MOST_DEVICES && device->used) device++;
    if (!error && device == devices + MOST_DEVICES) error = EMFILE;
    if (!error) {
        pthread_condattr_t monotonic;
        *device = (struct device){.used = 1, .number = number, .blocks = !(flags & O_NONBLOCK), .chance = number + 1};
        strcpy(device->id, config.id);
        device->file = REAL(int, "open", const char *, int, ...)(place, O_RDONLY | O_CLOEXEC);
        device->fd = eventfd(0, EFD_SEMAPHORE | EFD_NONBLOCK | (flags & O_CLOEXEC ? EFD_CLOEXEC : 0));
        pthread_condattr_init(&monotonic);
        pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
        pthread_cond_init(&device->changed, &monotonic);
    }
    pthread_mutex_unlock(&lock);
    return error ? errno = error, -1 : device->fd;
}

static int open_any(int folder, const char *path, int flags, mode_t mode) {
    char place[PATH_MAX];
    const char *to = moved(path, place);
    int number = to == path ? -1 : camera_at(to);
    if (number >= 0) return open_camera(number, to, flags);
    return REAL(int, "openat", int, const char *, int, ...)(folder, to, flags, mode);
}

#define MODE va_list rest; va_start(rest, flags); mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0; va_end(rest)
int open(const char *path, int flags, ...) { MODE; return open_any(AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE; return open_any(AT_FDCWD, path, flags, mode); }
int openat(int folder, const char *path, int flags, ...) { MODE; return open_any(folder, path, flags, mode); }
int openat64(int folder, const char *path, int flags, ...) { MODE; return open_any(folder, path, flags, mode); }

int close(int fd) {
    if (!of_fd(fd)) return REAL(int, "close", int)(fd);
    pthread_mutex_lock(&lock);
    struct device *device = of_fd(fd);
    forget_buffers(device);
    REAL(int, "close", int)(device->file);
    device->used = 0;
    pthread_mutex_unlock(&lock);
    return REAL(int, "close", int)(fd);
}

int ioctl(int fd, unsigned long request, ...) {
    va_list rest;
    va_start(rest, request);
    void *argument = va_arg(rest, void *);
    va_end(rest);
    struct device *device = of_fd(fd);
    if (!device) return REAL(int, "ioctl", int, unsigned long, ...)(fd, request, argument);
    pthread_mutex_lock(&lock);
    int error = call(device, (uint32_t)request, argument);
    pthread_mutex_unlock(&lock);
    return error ? errno = error, -1 : 0;
}

/* Webcams have no pictures to be read as a file; who tries is not to get an eventfd's count. */
ssize_t read(int fd, void *bytes, size_t size) {
    if (!of_fd(fd)) return REAL(ssize_t, "read", int, void *, size_t)(fd, bytes, size);
    errno = EINVAL;
    return -1;
}

static void *map(void *start, size_t length, int protection, int flags, int fd, off_t offset) {
    struct device *device = of_fd(fd);
    if (device) fd = device->buffers > 0 ? device->memory : -1;
    return REAL(void *, "mmap", void *, size_t, int, int, int, off_t)(start, length, protection, flags, fd, offset);
}
void *mmap(void *start, size_t length, int protection, int flags, int fd, off_t offset) { return map(start, length, protection, flags, fd, offset); }
void *mmap64(void *start, size_t length, int protection, int flags, int fd, off_t offset) { return map(start, length, protection, flags, fd, offset); }

/* Functions of a path: the same, of the place where it is. `AS_DEVICE` makes a camera's file look like a device's. */
#define AS_DEVICE(data) if (result == 0 && to != path && camera_at(to) >= 0) (data)->st_mode = S_IFCHR | ((data)->st_mode & 07777), (data)->st_rdev = makedev(81, camera_at(to))
#define MOVED char place[PATH_MAX]; const char *to = moved(path, place)
#define STAT(type, name) int name(const char *path, struct type *data) { MOVED; int result = REAL(int, #name, const char *, struct type *)(to, data); AS_DEVICE(data); return result; }
#define XSTAT(type, name) int name(int version, const char *path, struct type *data) { MOVED; int result = REAL(int, #name, int, const char *, struct type *)(version, to, data); AS_DEVICE(data); return result; }
STAT(stat, stat) STAT(stat64, stat64) STAT(stat, lstat) STAT(stat64, lstat64)
XSTAT(stat, __xstat) XSTAT(stat64, __xstat64) XSTAT(stat, __lxstat) XSTAT(stat64, __lxstat64)
int statx(int folder, const char *path, int flags, unsigned mask, struct statx *data) {
    MOVED;
    int result = REAL(int, "statx", int, const char *, int, unsigned, struct statx *)(folder, to, flags, mask, data);
    if (result == 0 && to != path && camera_at(to) >= 0) data->stx_mode = S_IFCHR | (data->stx_mode & 07777);
    return result;
}
int access(const char *path, int mode) { MOVED; return REAL(int, "access", const char *, int)(to, mode); }
int faccessat(int folder, const char *path, int mode, int flags) { MOVED; return REAL(int, "faccessat", int, const char *, int, int)(folder, to, mode, flags); }
FILE *fopen(const char *path, const char *mode) { MOVED; return REAL(FILE *, "fopen", const char *, const char *)(to, mode); }
FILE *fopen64(const char *path, const char *mode) { MOVED; return REAL(FILE *, "fopen64", const char *, const char *)(to, mode); }
ssize_t readlink(const char *path, char *target, size_t size) { MOVED; return REAL(ssize_t, "readlink", const char *, char *, size_t)(to, target, size); }

/* Who lists /dev finds the cameras there, and nothing else. */
DIR *opendir(const char *path) {
    MOVED;
    if (root() && (strcmp(path, "/dev") == 0 || strcmp(path, "/dev/") == 0)) snprintf(place, sizeof place, "%s/dev", root()), to = place;
    return REAL(DIR *, "opendir", const char *)(to);
}

/* A path below FOLDER is one of the system again. */
char *realpath(const char *path, char *found) {
    char base[PATH_MAX];
    MOVED;
    char *(*real)(const char *, char *) = REAL(char *, "realpath", const char *, char *);
    char *result = real(to, found);
    if (!result || to == path || !real(root(), base)) return result;
    size_t length = strlen(base);
    if (strncmp(result, base, length) == 0 && result[length] == '/') memmove(result, result + length, strlen(result + length) + 1);
    return result;
}
