"""A small Hugging Face hub on localhost, for its real client: repositories, commits, large files, downloads.

    with ModelHub() as hub, hub.as_endpoint(): ...

`hub.repos` holds name -> list of commits (sha, path -> bytes); `hub.sent` every request with the bytes that came in it.
`hub.deeds` maps a kind of request ('info', 'create', 'preupload', 'batch', 'put', 'commit', 'resolve NAME') to what is done instead of serving
it: a status, 'drop' (the connection breaks off half way), 'lie' (a byte is changed), 'change' (another commit comes first).
"""
import base64, hashlib, json, os, re, threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlparse


class Handler(BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    def log_message(self, *args): pass

    def _send(self, code, body=b'', length=None, **headers):
        self.send_response(code)
        for k,v in {'Content-Length':len(body) if length is None else length, 'Connection':'close', **headers}.items(): self.send_header(k.replace('_','-'), str(v))
        self.end_headers()
        self.close_connection = True
        if self.command!='HEAD': self.wfile.write(body)

    def _json(self, obj, code=200): self._send(code, json.dumps(obj).encode(), Content_Type='application/json')

    def _body(self):
        "All that came with the request, plain or in chunks"
        if 'chunked' not in self.headers.get('Transfer-Encoding', ''): return self.rfile.read(int(self.headers.get('Content-Length') or 0))
        parts = []
        while n := int(self.rfile.readline().split(b';')[0], 16): parts.append(self.rfile.read(n)); self.rfile.readline()
        self.rfile.readline()
        return b''.join(parts)

    def _do(self):
        hub,path = self.server.hub,unquote(urlparse(self.path).path)
        raw = self._body()
        hub.sent.append((self.command, path, dict(self.headers), raw))
        for pattern,act in ((r'/api/repos/create', self.create), (r'/api/validate-yaml', self.validate),
                            (r'/api/models/([^/]+/[^/]+)(?:/revision/([^/]+))?', self.info), (r'/api/models/([^/]+/[^/]+)/preupload/([^/]+)', self.preupload),
                            (r'/api/models/([^/]+/[^/]+)/commit/([^/]+)', self.commit), (r'/([^/]+/[^/]+)\.git/info/lfs/objects/batch', self.batch),
                            (r'/lfs/([0-9a-f]{64})', self.put), (r'/([^/]+/[^/]+)/resolve/([^/]+)/(.+)', self.resolve)):
            if m := re.fullmatch(pattern, path): return act(hub, raw, *m.groups())
        self._json(dict(error=path), 404)
    do_GET = do_POST = do_PUT = do_HEAD = do_DELETE = _do

    def _refused(self, hub, kind):
        deed = hub.deeds.get(kind)
        if isinstance(deed, int): self._send(deed, b'{"error":"refused"}', Content_Type='application/json')
        elif deed=='drop' and kind.split()[0]!='resolve': self.close_connection = True # no word
        elif deed=='change' and kind=='commit':
            hub.add('eyes/oct', {'other.txt':b'other'}); self._send(412, b'{"error":"changed"}', Content_Type='application/json')
        else: return False
        return True

    def create(self, hub, raw):
        if self._refused(hub, 'create'): return
        o = json.loads(raw)
        name = f"{o.get('organization') or 'me'}/{o['name']}"
        if name in hub.repos: return self._json(dict(error='exists', url=f'{hub.url}/{name}'), 409)
        hub.repos[name],hub.private[name] = [],o.get('private')
        hub.add(name, {})
        self._json(dict(url=f'{hub.url}/{name}', name=name, id=name))

    def validate(self, hub, raw): self._json(dict(errors=hub.deeds.get('yaml', []), warnings=[]))

    def _missing(self, what): self._send(404, b'{"error":"none"}', X_Error_Code=what, X_Error_Message=what)

    def info(self, hub, raw, name, rev=None):
        if self._refused(hub, 'info'): return
        if name not in hub.repos: return self._missing('RepoNotFound')
        if not (c := hub.at(name, rev or 'main')): return self._missing('RevisionNotFound')
        def told(k, b): return dict(rfilename=k, size=len(b), blobId=hashlib.sha1(b).hexdigest(), **(dict(lfs=dict(sha256=hashlib.sha256(b).hexdigest(), size=len(b), pointerSize=1)) if large(k) else {}))
        self._json(dict(_id='1', id=name, modelId=name, sha=c[0], private=False, tags=[], downloads=0, likes=0, gated=False, siblings=[told(*o) for o in c[1].items()]))

    def preupload(self, hub, raw, name, rev):
        if self._refused(hub, 'preupload'): return
        self._json(dict(files=[dict(path=o['path'], uploadMode='lfs' if large(o['path']) else 'regular', shouldIgnore=False) for o in json.loads(raw)['files']]))

    def batch(self, hub, raw, name):
        if self._refused(hub, 'batch'): return
        self._json(dict(transfer='basic', objects=[dict(oid=o['oid'], size=o['size'], actions=dict(upload=dict(href=f"{hub.url}/lfs/{o['oid']}", header={})))
                                                   for o in json.loads(raw)['objects']]))

    def put(self, hub, raw, oid):
        if self._refused(hub, 'put'): return
        assert hashlib.sha256(raw).hexdigest()==oid
        hub.lfs[oid] = raw
        self._send(200)

    def commit(self, hub, raw, name, rev):
        if self._refused(hub, 'commit'): return
        rows = [json.loads(o) for o in raw.splitlines()]
        files,head = dict(hub.at(name, rev)[1]),rows[0]['value']
        if head.get('parentCommit', hub.at(name, rev)[0])!=hub.at(name, rev)[0]: return self._json(dict(error='changed'), 412)
        for o in rows[1:]:
            v = o['value']
            if o['key']=='file': files[v['path']] = base64.b64decode(v['content'])
            if o['key']=='lfsFile': files[v['path']] = hub.lfs[v['oid']]
            if o['key']=='deletedFile': del files[v['path']]
            if o['key']=='deletedFolder': files = {k:b for k,b in files.items() if not k.startswith(v['path'])}
        sha = hub.add(name, files)
        self._json(dict(commitUrl=f'{hub.url}/{name}/commit/{sha}', commitOid=sha, pullRequestUrl=None))

    def resolve(self, hub, raw, name, rev, path):
        kind = f'resolve {path}'
        if self._refused(hub, kind): return
        c = hub.at(name, rev)
        if not c or path not in c[1]: return self._missing('EntryNotFound')
        b,deed = c[1][path],hub.deeds.get(kind)
        if deed=='lie': b = b[:-1]+bytes([b[-1]^1])
        head = dict(X_Repo_Commit=c[0], ETag=f'"{hashlib.sha256(c[1][path]).hexdigest()}"', Content_Type='application/octet-stream')
        if self.command=='GET' and deed=='drop': return self._send(200, b[:len(b)//2], len(b), **head)
        self._send(200, b, **head)


def large(path): return path.endswith(('.safetensors','.onnx','.png'))


class ModelHub:
    def __init__(self): self.repos,self.private,self.lfs,self.sent,self.deeds = {},{},{},[],{}

    def add(self, name, files):
        "Another commit of a repository; its sha"
        sha = hashlib.sha1(repr((name, len(self.repos.setdefault(name, [])), sorted(files))).encode()).hexdigest()
        self.repos[name].append((sha, dict(files)))
        return sha

    def at(self, name, rev):
        "The commit of a revision: 'main', or its sha"
        found = self.repos.get(name, [])
        return found[-1] if rev=='main' and found else next((o for o in found if o[0]==rev), None)

    @property
    def bytes_sent(self):
        "Every byte that came in: addresses, headers, bodies, and what stands in base64"
        parts = [f'{c} {p} {h}'.encode()+b for c,p,h,b in self.sent]
        coded = [base64.b64decode(o) for b in parts for o in re.findall(rb'"(?:content|sample)": ?"([\w+/=]+)"', b)]
        return b'\n'.join(parts+coded)

    def __enter__(self):
        self.server = ThreadingHTTPServer(('127.0.0.1',0), Handler)
        self.server.daemon_threads,self.server.hub = True,self
        self.url = f'http://127.0.0.1:{self.server.server_port}'
        threading.Thread(target=self.server.serve_forever, kwargs={'poll_interval':.02}, daemon=True).start()
        return self

    def __exit__(self, *args): self.server.shutdown(); self.server.server_close()

    @contextmanager
    def as_endpoint(self, token='hf_stub'):
        "Point the hub's real client here: plain uploads, no waiting between tries"
        import huggingface_hub.constants as hc
        from huggingface_hub.utils import disable_progress_bars
        disable_progress_bars()
        new = dict(HF_ENDPOINT=self.url, HF_TOKEN=token, HF_HUB_DISABLE_TELEMETRY='1')
        gone = [k for k in os.environ if k.lower().endswith('_proxy')]
        old,kept = {k:os.environ.get(k) for k in [*new,*gone]},hc.HF_HUB_DISABLE_XET
        for k in gone: del os.environ[k]
        os.environ |= new
        hc.HF_HUB_DISABLE_XET = True
        try: yield self
        finally:
            hc.HF_HUB_DISABLE_XET = kept
            for k,v in old.items():
                if v is None: os.environ.pop(k, None)
                else: os.environ[k] = v
