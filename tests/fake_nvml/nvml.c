// A libnvidia-ml.so.1 without GPUs: it answers from the text file that FAKE_NVML_STATE names, read again at each call.
//
// A line is a name and a number; what no line names is not supported. A later line wins.
//     devices 2
//     gpu0.power 250000                   the answer of nvmlDeviceGetPowerUsage
//     gpu0.field.138@4294967295 1000      a field of nvmlDeviceGetFieldValues, by id and scope
//     gpu0.gpm.3 55.5                     a metric of nvmlGpmMetricsGet
//     gpu0.xid 79                         delivered once, each time the number changes
//     fail.nvmlInitWithFlags 18           the function returns this code; `fail.all` is every function
//     gpu1.fail.all 15                    the same for the calls about one device
// Each call is appended to the file that FAKE_NVML_LOG names, if it is set.

#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
  SUCCESS = 0,
  INVALID_ARGUMENT = 2,
  NOT_SUPPORTED = 3,
  NOT_FOUND = 6,
  TIMEOUT = 10,
  MAX_DEVICES = 16,
  MAX_LINES = 1000,
  NAME_LENGTH = 128,
  UNSIGNED_LONG_LONG = 3,
  SIGNED_INT = 5
};

typedef struct {
  int index;
  double last_xid;
  bool has_events;
} Device;

typedef struct {
  uint32_t field_id;
  uint32_t scope_id;
  int64_t timestamp;
  int64_t latency_us;
  uint32_t value_type;
  int32_t code;
  union {
    uint64_t number;
    int32_t small;
  } value;
} FieldValue;

typedef struct {
  const Device *device;
  uint64_t taken;
} GpmSample;

typedef struct {
  uint32_t metric_id;
  int32_t code;
  double value;
  const char *info[3];
} GpmMetric;

typedef struct {
  uint32_t version;
  uint32_t count;
  const GpmSample *from;
  const GpmSample *to;
  GpmMetric metrics[];
} GpmMetrics;

typedef struct {
  const Device *device;
  uint64_t type;
  uint64_t data;
  uint32_t gpu_instance;
  uint32_t compute_instance;
} Event;

static Device devices[MAX_DEVICES];
static char names[MAX_LINES][NAME_LENGTH];
static double numbers[MAX_LINES];
static int lines;

static void read_state(void) {
  const char *path = getenv("FAKE_NVML_STATE");
  FILE *file = path ? fopen(path, "r") : NULL;
  lines = 0;
  while (file && lines < MAX_LINES && fscanf(file, "%127s %lf", names[lines], &numbers[lines]) == 2) {
    ++lines;
  }
  if (file) {
    fclose(file);
  }
}

static bool state(double *value, const char *format, ...) {
  char name[NAME_LENGTH];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(name, sizeof name, format, arguments);
  va_end(arguments);
  for (int line = lines - 1; line >= 0; --line) {
    if (strcmp(names[line], name) == 0) {
      *value = numbers[line];
      return true;
    }
  }
  return false;
}

static void note(const char *function) {
  const char *path = getenv("FAKE_NVML_LOG");
  FILE *file = path ? fopen(path, "a") : NULL;
  if (file) {
    fprintf(file, "%s\n", function);
    fclose(file);
  }
}

static int failure(const char *function, const Device *device) {
  double code;
  note(function);
  read_state();
  if (state(&code, "fail.all") || state(&code, "fail.%s", function)) {
    return (int)code;
  }
  if (device &&
      (state(&code, "gpu%d.fail.all", device->index) || state(&code, "gpu%d.fail.%s", device->index, function))) {
    return (int)code;
  }
  return SUCCESS;
}

#define MAY_FAIL(device)                    \
  do {                                      \
    int code = failure(__func__, (device)); \
    if (code != SUCCESS) {                  \
      return code;                          \
    }                                       \
  } while (0)

static int number(const Device *device, const char *name, double *value) {
  return state(value, "gpu%d.%s", device->index, name) ? SUCCESS : NOT_SUPPORTED;
}

static int small_number(const Device *device, const char *name, unsigned *value) {
  double found = 0;
  int code = number(device, name, &found);
  *value = (unsigned)found;
  return code;
}

int nvmlInitWithFlags(unsigned flags) {
  (void)flags;
  MAY_FAIL(NULL);
  for (int index = 0; index < MAX_DEVICES; ++index) {
    devices[index] = (Device){.index = index};
  }
  return SUCCESS;
}

int nvmlShutdown(void) {
  MAY_FAIL(NULL);
  return SUCCESS;
}

const char *nvmlErrorString(int code) {
  (void)code;
  return "a fake error";
}

int nvmlSystemGetDriverVersion(char *version, unsigned length) {
  MAY_FAIL(NULL);
  snprintf(version, length, "999.1");
  return SUCCESS;
}

int nvmlDeviceGetCount_v2(unsigned *count) {
  MAY_FAIL(NULL);
  double value = 0;
  state(&value, "devices");
  *count = (unsigned)value;
  return SUCCESS;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, Device **device) {
  *device = &devices[index % MAX_DEVICES];
  MAY_FAIL(*device);
  return SUCCESS;
}

int nvmlDeviceGetName(const Device *device, char *name, unsigned length) {
  MAY_FAIL(device);
  snprintf(name, length, "Fake GPU");
  return SUCCESS;
}

int nvmlDeviceGetUUID(const Device *device, char *uuid, unsigned length) {
  MAY_FAIL(device);
  snprintf(uuid, length, "GPU-00000000-0000-0000-0000-%012d", device->index);
  return SUCCESS;
}

int nvmlDeviceGetPciInfo_v3(const Device *device, char *info) {
  MAY_FAIL(device);
  enum { BUS_ID_AT = 36, BUS_ID_LENGTH = 32 };
  snprintf(info + BUS_ID_AT, BUS_ID_LENGTH, "00000000:%02X:00.0", device->index + 1);
  return SUCCESS;
}

int nvmlDeviceGetUtilizationRates(const Device *device, unsigned *rates) {
  MAY_FAIL(device);
  int code = small_number(device, "utilization", &rates[0]);
  small_number(device, "memory_utilization", &rates[1]);
  return code;
}

int nvmlDeviceGetMemoryInfo_v2(const Device *device, uint64_t *info) {
  MAY_FAIL(device);
  double total = 0;
  double used = 0;
  int code = number(device, "memory_used", &used);
  number(device, "memory_total", &total);
  info[1] = (uint64_t)total;
  info[4] = (uint64_t)used;
  return code;
}

int nvmlDeviceGetMemoryInfo(const Device *device, uint64_t *info) {
  MAY_FAIL(device);
  double total = 0;
  double used = 0;
  int code = number(device, "memory_used", &used);
  double reserved = 0;
  number(device, "memory_total", &total);
  number(device, "memory_reserved", &reserved);
  info[0] = (uint64_t)total;
  info[2] = (uint64_t)(used + reserved);
  return code;
}

int nvmlDeviceGetTemperature(const Device *device, unsigned sensor, unsigned *temperature) {
  (void)sensor;
  MAY_FAIL(device);
  return small_number(device, "temperature", temperature);
}

int nvmlDeviceGetClockInfo(const Device *device, unsigned type, unsigned *clock) {
  MAY_FAIL(device);
  return small_number(device, type == 1 ? "sm_clock" : "memory_clock", clock);
}

int nvmlDeviceGetMaxClockInfo(const Device *device, unsigned type, unsigned *clock) {
  (void)type;
  MAY_FAIL(device);
  return small_number(device, "max_sm_clock", clock);
}

int nvmlDeviceGetPowerUsage(const Device *device, unsigned *power) {
  MAY_FAIL(device);
  return small_number(device, "power", power);
}

int nvmlDeviceGetEnforcedPowerLimit(const Device *device, unsigned *power) {
  MAY_FAIL(device);
  return small_number(device, "power_limit", power);
}

int nvmlDeviceGetCurrentClocksThrottleReasons(const Device *device, uint64_t *reasons) {
  MAY_FAIL(device);
  double value = 0;
  int code = number(device, "throttle", &value);
  *reasons = (uint64_t)value;
  return code;
}

int nvmlDeviceGetCurrentClocksEventReasons(const Device *device, uint64_t *reasons) {
  MAY_FAIL(device);
  double value = 0;
  int code = number(device, "throttle", &value);
  *reasons = (uint64_t)value;
  return code;
}

int nvmlDeviceGetMigMode(const Device *device, unsigned *current, unsigned *pending) {
  MAY_FAIL(device);
  *pending = 0;
  return small_number(device, "mig", current);
}

int nvmlDeviceGetNvLinkState(const Device *device, unsigned link, unsigned *is_active) {
  MAY_FAIL(device);
  unsigned links = 0;
  int code = small_number(device, "nvlinks", &links);
  *is_active = link < links;
  return code;
}

int nvmlDeviceGetFieldValues(const Device *device, int count, FieldValue *fields) {
  MAY_FAIL(device);
  for (int i = 0; i < count; ++i) {
    FieldValue *field = &fields[i];
    double value = 0;
    bool found = state(&value, "gpu%d.field.%u@%u", device->index, field->field_id, field->scope_id);
    field->code = found ? SUCCESS : NOT_SUPPORTED;
    field->value_type = UNSIGNED_LONG_LONG;
    field->value.number = (uint64_t)value;
    if (value < 0) {
      field->value_type = SIGNED_INT;
      field->value.number = UINT64_MAX << 32;  // what is not of the value may hold anything
      field->value.small = (int32_t)value;
    }
  }
  return SUCCESS;
}

int nvmlEventSetCreate(void **set) {
  MAY_FAIL(NULL);
  *set = malloc(1);
  return SUCCESS;
}

int nvmlEventSetFree(void *set) {
  MAY_FAIL(NULL);
  free(set);
  return SUCCESS;
}

int nvmlDeviceRegisterEvents(Device *device, uint64_t types, void *set) {
  (void)types;
  (void)set;
  MAY_FAIL(device);
  device->has_events = true;
  return SUCCESS;
}

int nvmlEventSetWait_v2(void *set, Event *event, unsigned timeout_ms) {
  (void)set;
  (void)timeout_ms;
  MAY_FAIL(NULL);
  for (int index = 0; index < MAX_DEVICES; ++index) {
    Device *device = &devices[index];
    double xid = 0;
    if (device->has_events && number(device, "xid", &xid) == SUCCESS && xid != device->last_xid) {
      device->last_xid = xid;
      *event = (Event){.device = device, .type = 8, .data = (uint64_t)xid};
      return SUCCESS;
    }
  }
  return TIMEOUT;
}

int nvmlGpmQueryDeviceSupport(const Device *device, unsigned *support) {
  MAY_FAIL(device);
  return small_number(device, "gpm", &support[1]);
}

int nvmlGpmSampleAlloc(GpmSample **sample) {
  MAY_FAIL(NULL);
  *sample = calloc(1, sizeof **sample);
  return SUCCESS;
}

int nvmlGpmSampleFree(GpmSample *sample) {
  MAY_FAIL(NULL);
  free(sample);
  return SUCCESS;
}

int nvmlGpmSampleGet(const Device *device, GpmSample *sample) {
  static uint64_t taken;
  MAY_FAIL(device);
  *sample = (GpmSample){.device = device, .taken = ++taken};
  return SUCCESS;
}

int nvmlGpmMetricsGet(GpmMetrics *wanted) {
  MAY_FAIL(wanted->from->device);
  if (wanted->version != 1 || wanted->from->device != wanted->to->device || wanted->from->taken >= wanted->to->taken) {
    return INVALID_ARGUMENT;
  }
  for (uint32_t i = 0; i < wanted->count; ++i) {
    GpmMetric *metric = &wanted->metrics[i];
    bool found = state(&metric->value, "gpu%d.gpm.%u", wanted->to->device->index, metric->metric_id);
    metric->code = found ? SUCCESS : NOT_SUPPORTED;
  }
  return SUCCESS;
}
