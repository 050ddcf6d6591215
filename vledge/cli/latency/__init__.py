"""How long single steps take, the rare slow ones included, here and in other runtimes."""
