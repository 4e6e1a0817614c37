// A reader of safetensors files: as much of one as these programs need.

#pragma once

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_RANK 8

typedef struct {
  char *header; // JSON, with a 0 behind it
  const unsigned char *data;
  size_t data_size;
} Model;

typedef struct {
  const unsigned char *bytes;
  size_t size;
  size_t rank;
  size_t shape[MAX_RANK];
} Tensor;

static inline void fail(const char *what, const char *which) {
  fprintf(stderr, "%s: %s\n", which, what);
  exit(1);
}

static inline Model model_open(const char *path) {
  FILE *file = fopen(path, "rb");
  if (file == NULL || fseek(file, 0, SEEK_END) != 0) fail("cannot be opened", path);
  long size = ftell(file);
  rewind(file);
  unsigned char *bytes = (unsigned char *)malloc((size_t)size);
  if (size < 8 || bytes == NULL) fail("is no model", path);
  if (fread(bytes, 1, (size_t)size, file) != (size_t)size) fail("cannot be read", path);
  fclose(file);
  uint64_t length = 0;
  for (int i = 0; i < 8; i++) length |= (uint64_t)bytes[i] << (8 * i);
  if (length > (uint64_t)size - 8) fail("is no model", path);
  char *header = (char *)malloc((size_t)length + 1);
  if (header == NULL) fail("out of memory", path);
  memcpy(header, bytes + 8, (size_t)length);
  header[length] = 0;
  Model model = {header, bytes + 8 + length, (size_t)size - 8 - (size_t)length};
  return model;
}

/// Whether the model has the tensor, and what it is.
static inline int model_find(const Model *model, const char *name, Tensor *tensor) {
  char key[256];
  snprintf(key, sizeof key, "\"%s\":{", name);
  const char *entry = strstr(model->header, key);
  if (entry == NULL) return 0;
  const char *shape = strstr(entry, "\"shape\":[");
  const char *offsets = strstr(entry, "\"data_offsets\":[");
  if (shape == NULL || offsets == NULL) fail("is incomplete", name);
  char *next = (char *)shape + strlen("\"shape\":[");
  for (tensor->rank = 0; *next != ']' && tensor->rank < MAX_RANK; tensor->rank++) {
    tensor->shape[tensor->rank] = strtoull(next, &next, 10);
    if (*next == ',') next++;
  }
  size_t start = strtoull(offsets + strlen("\"data_offsets\":["), &next, 10);
  size_t end = strtoull(next + 1, &next, 10);
  if (start > end || end > model->data_size) fail("is damaged", name);
  tensor->bytes = model->data + start;
  tensor->size = end - start;
  return 1;
}

/// The names of all tensors, one at a time; 0 after the last. `place` starts at 0.
static inline int model_next(const Model *model, size_t *place, char name[128]) {
  const char *entry = strstr(model->header + *place, "\":{\"dtype\"");
  if (entry == NULL) return 0;
  const char *start = entry;
  while (start > model->header && start[-1] != '"') start--;
  size_t length = (size_t)(entry - start);
  if (length >= 128) fail("a long name", start);
  memcpy(name, start, length);
  name[length] = 0;
  *place = (size_t)(entry - model->header) + 1;
  return 1;
}
