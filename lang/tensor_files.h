/* Files of tensors, what load and save share: safetensors, and which files this program writes itself.
 *
 * A program that saves a file and loads it again sees what it saved: such a load is ordered after the save, and its
 * types are those that were saved, whatever lies on the disk while checking. So is a load in a loop. All other loads
 * are pure: read when used. A save whose path was loaded before waits for that load. Internal to lang/. */
#ifndef TG_LANG_TENSOR_FILES_H
#define TG_LANG_TENSOR_FILES_H
#include "lang/session.h"
#include "stdlib/native/files.h"

/* What a save wrote. name[k] is "" for one bare tensor; types[k].dim are the arena's. */
typedef struct SavedFile {
  const char *path;
  int n;
  const char *const *name;
  const TensorType *type;
  bool part; /* a checkpoint: a load may want a part of it */
} SavedFile;

/* The last save to this path in the program so far, or NULL. */
const SavedFile *file_saved(Elab *E, const char *path);
void file_note_save(Elab *E, const char *path, bool part, int n, const char *const *name, Node *const *node);
/* A CALL that reads `path`, ordered where it must be. */
Node *file_load_call(Elab *E, const char *native, int nattr, const Attr *attr, int nres, const TensorType *res,
                     Span at);
/* Before a save: what was loaded from `path` so far has been read. */
void file_settle(Elab *E, const char *path, Span at);

/* Leaves with their names, as a CALL's arguments: models by parameter paths, numbers as tensors. `what` names the value
 * in messages. Fails T_TYPE for what is no tensor. */
typedef struct Leaves {
  int n;
  const char **name;
  Node **node;
  TensorType *type;
} Leaves;
Leaves leaves_of(Elab *E, Value *v, Span at, const char *what);
/* v with leaf k replaced by result first + k of a call. */
Value *with_results(Elab *E, Value *v, Node *call, int first);
/* The tree of names joined by dots: records, and tuples where all keys of a level are positions. */
Value *tree_of_names(Elab *E, const char *path, int n, const char *const *name, Value *const *leaf, Span at);

/* load(path), load(path, like) of a .safetensors file. `like` may be NULL. */
Value *load_safetensors(Elab *E, const char *path, Value *like, Span at, Span like_at);
void save_safetensors(Elab *E, const char *path, Value *v, Span at, Span path_at);
#endif
