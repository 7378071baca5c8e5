# SPDX-License-Identifier: Apache-2.0
"""class Processor: what runs on a message, and the compiler for one in source."""

import functools
import hashlib
import os
import shlex
import shutil
import subprocess
import tempfile

from . import _errors, _gpuq

_flags = ["-std=c++17", "-O2", "-fPIC", "-shared", "-fno-exceptions", "-fno-rtti", "-fvisibility=hidden"]


def get_include():
    """The folder with gpuq/processor.h, for compilers."""
    return os.path.join(os.path.dirname(__file__), "include")


def _cache():
    base = os.environ.get("GPUQ_CACHE_DIR") or os.path.join(
        os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache"), "gpuq"
    )
    os.makedirs(base, mode=0o700, exist_ok=True)
    return base


def _compiler():
    for name in (os.environ.get("CXX"), "c++", "g++", "clang++"):
        words = shlex.split(name) if name else []
        if words and shutil.which(words[0]):
            return [shutil.which(words[0]), *words[1:]]
    raise _errors.OpenError(
        "processor: there is no C++ compiler to compile it for the CPU device: neither CXX nor c++, g++ or "
        "clang++ is found"
    )


def _identity(compiler):
    """What a compiler that has been replaced changes."""
    at = os.stat(compiler[0])
    return f"{compiler} {at.st_size} {at.st_mtime_ns}"


def _write(path, content):
    """Whole or not at all, also beside other processes that write the same."""
    handle, temporary = tempfile.mkstemp(dir=os.path.dirname(path), suffix=os.path.splitext(path)[1])
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


class Processor:
    """What a queue's consumers run on each message. Made by one of

    - Processor.from_cuda(source): CUDA C++ source that defines process_message();
    - Processor.from_path(path): a shared object, a .fatbin, .cubin or .ptx, or a .cu file;
    - Processor.from_cfunc(address): a function in this process, for the CPU device.
    """

    def __init__(self, name=None):
        """A stock processor by its name."""
        self._name = name
        self._address = 0
        self._source = None
        self._keep = None

    def __repr__(self):
        return f"<gpuq.Processor {self._name or hex(self._address)}>"

    @classmethod
    def _of(cls, what):
        if isinstance(what, Processor):
            return what
        if isinstance(what, (str, bytes, os.PathLike)):
            name = os.fsdecode(what)
            if isinstance(what, os.PathLike) and "/" not in name:
                name = "./" + name
            return cls.from_path(name) if name.endswith(".cu") else cls(name)
        raise TypeError(f"gpuq: processor is a name, a path or a gpuq.Processor, not {type(what)!r}")

    @classmethod
    def from_path(cls, path):
        """A processor in a file: .so, .fatbin, .cubin, .ptx, or CUDA source (.cu), as from_cuda()."""
        name = os.fsdecode(path)
        if name.endswith(".cu"):
            with open(name, encoding="utf-8") as file:
                made = cls.from_cuda(file.read(), include=[os.path.dirname(os.path.abspath(name))])
            made._name = name
            return made
        return cls(name if "/" in name else "./" + name)

    @classmethod
    def from_cuda(cls, source, *, include=(), options=()):
        """A processor from source that includes <gpuq/processor.h> and defines process_message().

        On a GPU, NVRTC compiles it when the queue is made. On the CPU device the C++ compiler of CXX, or
        c++, g++ or clang++, does; the shared object is kept in GPUQ_CACHE_DIR, or in gpuq below
        XDG_CACHE_HOME or ~/.cache, and used again for the same source, options and compiler. (A header
        of your own that changes is not noticed.)

        include: folders, and options: further options, for the C++ compiler.

        What a compiler finds is in the gpuq.OpenError that Queue() raises.
        """
        made = cls("source")
        made._source = source
        made._include = [os.fsdecode(folder) for folder in include]
        made._options = list(options)
        return made

    @classmethod
    def from_cfunc(cls, address, *, keep=None):
        """A function of this process: void (const MsgView *, ResultView *), as Numba's cfunc makes.

        address: a number, or an object with an attribute ``address``, as Numba's has; it is kept. keep:
        whatever else must not be freed while a queue may call the function. Consumers call it from
        several threads at once, without the GIL. For the CPU device only.
        """
        made = cls(None)
        made._address = int(getattr(address, "address", address))
        made._keep = (address, keep)
        if not 0 < made._address < 1 << 64:
            raise ValueError(f"gpuq: {made._address} is no address of a function")
        return made

    def _resolve(self, device):
        """For Queue: a name or path, and an address."""
        wanted = device if device != "auto" else os.environ.get("GPUQ_DEVICE") or "auto"
        if self._name is not None and self._source is None:
            return self._name, 0
        if wanted == "remote" or wanted.startswith("unix:"):
            raise _errors.OpenError(
                "processor: gpuqd runs its own, and takes none from a client: name one of gpuqd's, such as 'echo'"
            )
        if self._address:
            return None, self._address
        if wanted == "cuda" or (wanted == "auto" and is_available("cuda")):
            return self._cuda_file(), 0
        return self._shared_object(), 0

    def _cuda_file(self):
        if self._name and self._name.endswith(".cu"):
            return self._name if "/" in self._name else "./" + self._name
        key = hashlib.sha256(self._source.encode()).hexdigest()[:32]
        path = os.path.join(_cache(), key + ".cu")
        if not os.path.exists(path):
            _write(path, self._source.encode())
        return path

    def _shared_object(self):
        compiler = _compiler()
        command = [*compiler, *_flags, f"-I{get_include()}", *(f"-I{i}" for i in self._include), *self._options]
        text = self._source + '\nQ_PROCESSOR_IMAGE("source");\n'
        key = "\0".join([_gpuq.version(), _identity(compiler), *command, text])
        path = os.path.join(_cache(), hashlib.sha256(key.encode()).hexdigest()[:32] + ".so")
        if not os.path.exists(path):
            self._compile(command, text, path)
        return path

    def _compile(self, command, text, path):
        with tempfile.TemporaryDirectory(prefix="gpuq-") as folder:
            source = os.path.join(folder, "processor.cc")
            made = os.path.join(folder, "processor.so")
            with open(source, "w", encoding="utf-8") as file:
                file.write(text)
            done = subprocess.run([*command, "-o", made, source], capture_output=True, text=True, check=False)
            if done.returncode != 0:
                raise _errors.OpenError(
                    f"processor: the C++ compiler does not accept the source:\n{done.stderr.replace(source, 'source')}"
                )
            with open(made, "rb") as file:
                _write(path, file.read())


@functools.lru_cache(maxsize=None)
def _can_open(device):
    core = _gpuq.QueueCore()
    try:
        settings = {"capacity": 1, "slot_bytes": 1, "device": {"cpu": 1, "cuda": 2}[device]}
        core._open(settings, "echo", None, 0, None, None)
    except _errors.OpenError:
        return False
    core._stop(5)
    core._detach()
    return True


def is_available(device="cuda"):
    """Whether a queue can be made on this device, "cuda" or "cpu". Looked at once a process."""
    return _can_open(device)
