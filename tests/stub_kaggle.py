"""A small Kaggle on localhost for tests: the API's calls that we use, and the store behind its signed links.

    with KaggleStub(zip_bytes) as k, k.as_kaggle(): download(card, to)

`k.api` and `k.store` are lists of misdeeds, one for each request of their kind; when they are used up, requests are served honestly.
`k.log` holds (what, detail) of each request: ('api', method), ('store', first byte asked for or None).
"""
import io, json, re, stat, threading, time, zipfile
from contextlib import contextmanager
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def make_zip(members, **kwargs):
    "Bytes of a zip with `members`, a dict of names (or `ZipInfo`) and contents"
    f = io.BytesIO()
    with zipfile.ZipFile(f, 'w', **{'compression':zipfile.ZIP_DEFLATED, **kwargs}) as z:
        for k,v in members.items(): z.writestr(k, v)
    return f.getvalue()

def symlink(name):
    "A member that a careless tool would make a link"
    o = zipfile.ZipInfo(name)
    o.create_system,o.external_attr = 3,(stat.S_IFLNK|0o777) << 16
    return o


class Handler(BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    def log_message(self, *args): pass

    def _send(self, code, body=b'', **headers):
        self.send_response(code)
        for k,v in {'Content-Length':len(body), 'Connection':'close', **headers}.items(): self.send_header(k.replace('_','-'), str(v))
        self.end_headers()
        self.wfile.write(body)

    def _json(self, code, obj, **headers): self._send(code, json.dumps(obj).encode(), Content_Type='application/json', **headers)

    def do_POST(self):
        "The API"
        k,method = self.server.stub,self.path.split('/')[-1]
        body = json.loads(self.rfile.read(int(self.headers.get('Content-Length') or 0)) or b'{}')
        k.log.append(('api', method)); k.bodies.append(body); k.auth.append(self.headers.get('Authorization'))
        k.asked(method, body)
        if method=='IntrospectToken':
            if k.introspect!=200: return self._json(k.introspect, {'code':k.introspect, 'message':'no'})
            return self._json(200, {'active':body.get('token') in k.tokens, 'username':'ada'})
        if method=='GetDataset':
            if k.about!=200: return self._json(k.about, {'code':k.about, 'message':'no metadata'})
            return self._json(200, {'id':1, 'ref':'ada/eyes', 'licenseName':k.license, 'currentVersionNumber':k.version})
        if method not in ('DownloadDataset','DownloadDataFiles'): return self._json(404, {'code':404, 'message':method})
        deed = k.api.pop(0) if k.api else None
        if isinstance(deed, bytes): return self._send(200, deed, Content_Type='application/json' if deed[:1]==b'{' else 'text/html')
        if isinstance(deed, tuple): return self._json(deed[0], {'code':deed[0], 'message':'refused'}, **deed[1])
        if deed: return self._json(deed, {'code':deed, 'message':'refused'})
        k.links += 1
        self._send(302, Location=f'/store/archive.zip?link={k.links}')

    def do_GET(self):
        "The store"
        k,h = self.server.stub,self.headers
        m = re.match(r'bytes=(\d+)-', h.get('Range',''))
        k.log.append(('store', int(m[1]) if m else None))
        deed,n = k.store.pop(0) if k.store else ('serve',0)
        if deed=='change': k.change(n); deed = 'serve'
        if deed=='status': return self._send(n, b'<Error>ExpiredToken</Error>', Content_Type='application/xml')
        if deed=='garbage': return self._send(200, n, Content_Type='application/zip')
        body = k.body[:n] if deed=='truncate' else k.body
        known = {o for o in (k.etag, k.modified) if o}
        start = int(m[1]) if m and not k.no_ranges and h.get('If-Range') in known else 0
        part = k.lie(body, start) if k.lie and start else body[start:]
        self.send_response(206 if start else 200)
        self._headers(k, body, start)
        self._body(part, deed, n)

    def _headers(self, k, body, start):
        head = {'Content-Type':'application/zip', 'Content-Length':len(body)-start, 'Accept-Ranges':'bytes', 'ETag':k.etag,
                'Last-Modified':k.modified, 'Connection':'close'}
        if start: head['Content-Range'] = k.range or f'bytes {start}-{len(body)-1}/{len(body)}'
        for a,b in head.items():
            if b is not None: self.send_header(a, str(b))
        self.end_headers()

    def _body(self, part, deed, n):
        self.close_connection = True
        if deed in ('drop','stall'): part = part[:n]
        step = n if deed=='slow' else 1<<16
        try:
            for i in range(0, len(part), step):
                self.wfile.write(part[i:i+step]); self.wfile.flush()
                if deed=='slow': time.sleep(.05)
            if deed=='stall': time.sleep(3)
        except OSError: pass  # the client left


class KaggleStub:
    "A Kaggle with one archive"
    def __init__(self, body, token='KGAT_stub', license='CC-BY-NC-SA-4.0', version=2):
        self.tokens,self.license,self.version = {token},license,version
        self.api,self.store,self.log,self.bodies,self.auth = [],[],[],[],[]
        self.links,self.introspect,self.about,self.no_ranges,self.lie,self.range,self.n = 0,200,200,False,None,None,0
        self.change(body)

    def change(self, body):
        "Publish another archive"
        self.n += 1
        self.body,self.etag,self.modified = body,f'"v{self.n}"',formatdate(1.6e9+self.n, usegmt=True)

    def asked(self, method, body): "For a Kaggle with more than one archive: called with each request to the API"

    def __enter__(self):
        self.server = ThreadingHTTPServer(('127.0.0.1',0), Handler)
        self.server.daemon_threads,self.server.stub = True,self
        self.url = f'http://127.0.0.1:{self.server.server_port}'
        threading.Thread(target=self.server.serve_forever, kwargs={'poll_interval':.02}, daemon=True).start()
        return self

    def __exit__(self, *args):
        self.server.shutdown(); self.server.server_close()

    @contextmanager
    def as_kaggle(self):
        "Point Kaggle's real client here"
        from kagglesdk.kaggle_env import KaggleEnv, _env_to_endpoint
        old = _env_to_endpoint[KaggleEnv.PROD]
        _env_to_endpoint[KaggleEnv.PROD] = self.url
        try: yield self
        finally: _env_to_endpoint[KaggleEnv.PROD] = old

    @property
    def ranges(self): return [b for a,b in self.log if a=='store']
