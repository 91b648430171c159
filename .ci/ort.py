"""Take the three files of onnxruntime-web that `fundus page` needs from its npm package into the library.

    npm pack onnxruntime-web@1.30.0 && python .ci/ort.py onnxruntime-web-1.30.0.tgz

They are kept packed by xz (2.2 of 14.3 MB), with their digests; notices are those of the onnxruntime that is installed.
"""
import base64, hashlib, json, lzma, os, sys, tarfile
from importlib.resources import files
from pathlib import Path

HOME = Path(__file__).resolve().parent.parent/'fundus_fastai/ship/browser/ort'
os.environ.setdefault('ORT_DISABLE_TELEMETRY', '1') # `files` imports the package
NAMES = 'ort.wasm.min.mjs','ort-wasm-simd-threaded.mjs','ort-wasm-simd-threaded.wasm'

def main(tgz):
    raw = Path(tgz).read_bytes()
    with tarfile.open(tgz) as t:
        def read(name): return t.extractfile(f'package/{name}').read()
        about,found = json.loads(read('package.json')),{o:read(f'dist/{o}') for o in NAMES}
    for o in HOME.glob('*.xz'): o.unlink()
    for k,v in found.items(): (HOME/f'{k}.xz').write_bytes(lzma.compress(v, preset=9|lzma.PRESET_EXTREME))
    own = files('onnxruntime')
    notices = (own/'ThirdPartyNotices.txt').read_bytes()
    (HOME/'NOTICES.txt.xz').write_bytes(lzma.compress(notices, preset=9|lzma.PRESET_EXTREME))
    (HOME/'LICENSE.txt').write_bytes((own/'LICENSE').read_bytes())
    told = dict(name=about['name'], version=about['version'], license=about['license'],
                integrity='sha512-'+base64.b64encode(hashlib.sha512(raw).digest()).decode(),
                files={k:hashlib.sha256(v).hexdigest() for k,v in found.items()})
    (HOME/'ort.json').write_text(json.dumps(told, indent=1)+'\n')
    print(json.dumps(told, indent=1))

if __name__=='__main__': main(sys.argv[1])
