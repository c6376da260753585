/* See dev_tensors.h. A list: programs hold tens of tensors, seldom more than a thousand. */
#include "codegen/dev_tensors.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct DevTensor {
  DevTensor *next;
  Tensor host; /* a reference; without an owner: borrowed */
  void *at;
  int users;
  uint64_t used; /* when, by DevTensors.now */
};

struct DevTensors {
  RtDevice *d;
  DevTensor *first;
  uint64_t now;
};

DevTensors *dev_tensors_new(RtDevice *d) {
  DevTensors *s = calloc(1, sizeof *s);
  if (s) s->d = d;
  return s;
}

/* Takes *link out of the list. */
static void release(DevTensors *s, DevTensor **link) {
  DevTensor *x = *link;
  *link = x->next;
  s->d->op->release(s->d, x->at);
  tensor_drop(&x->host);
  free(x);
}

void dev_tensors_free(DevTensors *s) {
  while (s && s->first) release(s, &s->first);
  free(s);
}

void dev_tensors_sweep(DevTensors *s) {
  for (DevTensor **link = &s->first; *link;) {
    DevTensor *x = *link;
    if (!x->users && x->host.owner->refs == 1)
      release(s, link);
    else
      link = &x->next;
  }
}

static bool release_oldest(DevTensors *s) {
  DevTensor **oldest = NULL;
  for (DevTensor **link = &s->first; *link; link = &(*link)->next)
    if (!(*link)->users && (!oldest || (*link)->used < (*oldest)->used)) oldest = link;
  if (oldest) release(s, oldest);
  return oldest != NULL;
}

bool dev_room(DevTensors *s, size_t bytes, void **p) {
  if (s->d->op->alloc(s->d, bytes, p)) return true;
  char why[sizeof s->d->why];
  memcpy(why, s->d->why, sizeof why);
  if (!s->d->op->wait(s->d)) return false; /* what is queued may still read what is released */
  while (release_oldest(s))
    if (s->d->op->alloc(s->d, bytes, p)) return true;
  memcpy(s->d->why, why, sizeof why);
  return false;
}

static DevTensor *add(DevTensors *s, const Tensor *t, void *at, int users) {
  DevTensor *x = malloc(sizeof *x);
  if (!x) {
    snprintf(s->d->why, sizeof s->d->why, "out of memory");
    return NULL;
  }
  *x = (DevTensor){s->first, tensor_ref(t), at, users, ++s->now};
  return s->first = x;
}

DevTensor *dev_tensor_use(DevTensors *s, const Tensor *t, bool *no_room) {
  void *at;
  size_t bytes = tensor_bytes(t);
  for (DevTensor *x = t->owner ? s->first : NULL; x; x = x->next)
    if (x->host.owner == t->owner && x->host.data == t->data && tensor_bytes(&x->host) == bytes) {
      x->users++;
      x->used = ++s->now;
      return x;
    }
  *no_room = !dev_room(s, bytes, &at);
  if (*no_room) return NULL;
  DevTensor *x = s->d->op->put(s->d, at, t->data, bytes) ? add(s, t, at, 1) : NULL;
  if (!x) s->d->op->release(s->d, at);
  return x;
}

void *dev_tensor_at(const DevTensor *x) { return x->at; }

void dev_tensor_leave(DevTensors *s, DevTensor *x) {
  DevTensor **link = &s->first;
  if (--x->users || x->host.owner) return;
  while (*link != x) link = &(*link)->next;
  release(s, link);
}

void dev_tensor_give(DevTensors *s, const Tensor *t, void *p) {
  if (!t->owner || t->owner->refs < 1 || !add(s, t, p, 0)) s->d->op->release(s->d, p);
}
