"""Takes a gigabyte, in the process itself."""

held = [bytearray(b"x" * 2**20) for _ in range(1024)]
print("this machine let me have it", flush=True)
