/* A stand-in for libcudart: host memory, one stream at a time, clocks for events.

   What is "on the device" is host memory that is kept in a table, so that a pointer that is none of
   the device, a copy past the end of a buffer, or a buffer that is never freed is told as an error
   and not passed over. A capture keeps what is put on the stream (fake_graph_add) without running
   it, and a launch runs it; what CUDA does not allow during a capture is refused here, too. */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define INVALID 1
#define NO_MEMORY 2
#define NOT_IN_CAPTURE 900
#define MANY 4096

typedef void (*work_t)(void *);
typedef struct { work_t work; void *data; } graph_t;
typedef struct { int capturing, broken; graph_t *graph; } stream_t;

static struct { char *start; size_t size; } table[MANY];
static size_t used, room = (size_t)4 << 30;
static int compute = 87, integrated, refuse_capture, capturing;

/* levers of the tests */
void fake_set_compute(int capability) { compute = capability; }
void fake_set_integrated(int yes) { integrated = yes; }
void fake_set_room(size_t bytes) { room = bytes; }
void fake_refuse_capture(int yes) { refuse_capture = yes; }
size_t fake_used(void) { return used; }

static int inside(const void *pointer, size_t size) {
  const char *p = pointer;
  for (int i = 0; i < MANY; i++)
    if (table[i].start && p >= table[i].start && p + size <= table[i].start + table[i].size)
      return 1;
  return 0;
}

int cudaMalloc(void **pointer, size_t size) {
  if (capturing) return NOT_IN_CAPTURE;
  if (used + size > room) return NO_MEMORY;
  for (int i = 0; i < MANY; i++)
    if (!table[i].start) {
      *pointer = table[i].start = malloc(size);
      memset(table[i].start, 0xa5, size); /* nobody may count on zeros */
      table[i].size = size;
      used += size;
      return 0;
    }
  return NO_MEMORY;
}

int cudaFree(void *pointer) {
  for (int i = 0; i < MANY; i++)
    if (table[i].start == pointer && pointer) {
      used -= table[i].size;
      free(pointer);
      table[i].start = NULL;
      return 0;
    }
  return INVALID;
}

static int places(void *to, size_t to_size, const void *from, size_t from_size, int kind) {
  int to_device = kind == 1 || kind == 3, from_device = kind == 2 || kind == 3;
  return inside(to, to_size) == to_device && inside(from, from_size) == from_device;
}

int cudaMemcpyAsync(void *to, const void *from, size_t size, int kind, stream_t *stream) {
  if (!stream) return INVALID;
  if (stream->capturing) return NOT_IN_CAPTURE;
  if (!places(to, size, from, size, kind)) return INVALID;
  memmove(to, from, size);
  return 0;
}

int cudaMemcpy2DAsync(void *to, size_t to_pitch, const void *from, size_t from_pitch, size_t width,
                      size_t height, int kind, stream_t *stream) {
  if (!stream || !height || width > to_pitch || width > from_pitch) return INVALID;
  if (stream->capturing) return NOT_IN_CAPTURE;
  size_t to_size = (height - 1) * to_pitch + width, from_size = (height - 1) * from_pitch + width;
  if (!places(to, to_size, from, from_size, kind)) return INVALID;
  for (size_t i = 0; i < height; i++)
    memmove((char *)to + i * to_pitch, (const char *)from + i * from_pitch, width);
  return 0;
}

int cudaMemsetAsync(void *pointer, int value, size_t size, stream_t *stream) {
  if (!stream || !inside(pointer, size)) return INVALID;
  if (stream->capturing) return NOT_IN_CAPTURE;
  memset(pointer, value, size);
  return 0;
}

int cudaStreamCreate(stream_t **stream) { *stream = calloc(1, sizeof(stream_t)); return 0; }
int cudaStreamDestroy(stream_t *stream) { free(stream); return 0; }

int cudaStreamSynchronize(stream_t *stream) {
  if (!stream) return INVALID;
  if (stream->capturing) { stream->broken = 1; return NOT_IN_CAPTURE; }
  return 0;
}

int cudaEventCreate(double **event) { *event = calloc(1, sizeof(double)); return 0; }
int cudaEventDestroy(double *event) { free(event); return 0; }
int cudaEventSynchronize(double *event) { return event ? 0 : INVALID; }

int cudaEventRecord(double *event, stream_t *stream) {
  struct timespec now;
  if (!event || !stream) return INVALID;
  clock_gettime(CLOCK_MONOTONIC, &now);
  *event = now.tv_sec * 1e3 + now.tv_nsec / 1e6;
  return 0;
}

int cudaEventElapsedTime(float *ms, double *start, double *end) {
  *ms = (float)(*end - *start);
  return 0;
}

int cudaStreamBeginCapture(stream_t *stream, int mode) {
  if (!stream || mode < 0 || mode > 2 || refuse_capture) return refuse_capture ? 801 : INVALID;
  stream->capturing = capturing = 1;
  stream->broken = 0;
  stream->graph = calloc(1, sizeof(graph_t));
  return 0;
}

int cudaStreamEndCapture(stream_t *stream, graph_t **graph) {
  if (!stream || !stream->capturing) return INVALID;
  stream->capturing = capturing = 0;
  *graph = stream->graph;
  return stream->broken ? 901 : 0;
}

int cudaGraphInstantiateWithFlags(graph_t **exec, graph_t *graph, unsigned long long flags) {
  if (!graph || flags) return INVALID;
  *exec = malloc(sizeof(graph_t));
  **exec = *graph;
  return 0;
}

int cudaGraphDestroy(graph_t *graph) { free(graph); return 0; }
int cudaGraphExecDestroy(graph_t *exec) { free(exec); return 0; }

int cudaGraphLaunch(graph_t *exec, stream_t *stream) {
  if (!exec || !exec->work || !stream) return INVALID;
  exec->work(exec->data);
  return 0;
}

/* for the stand-in of TensorRT: 1 if the work was kept for a graph, 0 if it is to be done now */
int fake_graph_add(stream_t *stream, work_t work, void *data) {
  if (!stream->capturing) return 0;
  stream->graph->work = work;
  stream->graph->data = data;
  return 1;
}

int cudaDeviceGetAttribute(int *value, int which, int device) {
  const char *told = getenv("FAKE_COMPUTE"); /* for who starts a process and cannot call it */
  int capability = told ? atoi(told) : compute;
  if (device || (which != 75 && which != 76 && which != 18)) return INVALID;
  if (which == 18) { *value = integrated; return 0; }
  *value = which == 75 ? capability / 10 : capability % 10;
  return 0;
}

int cudaMemGetInfo(size_t *available, size_t *total) {
  *total = room;
  *available = room - used;
  return 0;
}

int cudaRuntimeGetVersion(int *version) { *version = 12060; return 0; }
int cudaGetLastError(void) { return 0; }

const char *cudaGetErrorString(int code) {
  switch (code) {
    case INVALID: return "invalid argument";
    case NO_MEMORY: return "out of memory";
    case NOT_IN_CAPTURE: return "operation not permitted when stream is capturing";
    default: return "operation not supported";
  }
}
