/* OpenBLAS's number of threads, which is the process's: 1 while any caller is inside, then what it was. */
#include "codegen/rt/lapack.h"
#include <criterion/criterion.h>

Test(rt_lapack, one_thread_while_anyone_is_inside) {
  Lapack la[2] = {0};
  if (!lapack_open(la) || !la->enter) cr_skip_test("no OpenBLAS here");
  cr_assert_eq(la->get_threads(), 1, "nobody else loaded it");
  la->set_threads(2); /* the process's own wish */
  if (la->get_threads() != 2) cr_skip_test("OpenBLAS has one thread here");
  la->enter(la);
  cr_assert_eq(la->get_threads(), 1);
  la->enter(la);
  la->leave(la);
  cr_assert_eq(la->get_threads(), 1, "another is inside still");
  la->leave(la);
  cr_assert_eq(la->get_threads(), 2);
}
