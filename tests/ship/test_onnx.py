"The file on its own: what is refused, and that a machine without torch can ask it"
import json, os, subprocess, sys
from pathlib import Path
import numpy as np, onnx, pandas as pd, pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from fundus_fastai.core import DataError, ModelError
from fundus_fastai.image.recipe import Eye
from made import mean_model
from fundus_fastai.ship.onnx import SEAL, OnnxNet, net_picture, outside_tensors, predict_onnx, read_onnx, sealed, write_onnx

TOLD = dict(kind='category', classes=['a','b'], columns=['p_a','p_b'], image='fundus', size=16, recipe='color', sha256='ab'*32, source='local')

@pytest.fixture
def file(tmp_path): return write_onnx(tmp_path/'m.onnx', mean_model(), TOLD)

def refused(path, *words):
    with pytest.raises(ModelError) as e: read_onnx(path)
    said = str(e.value)
    assert '\n' not in said and all(o in said for o in [str(path), *words]), said

@pytest.mark.parametrize('n', ['4,2',' 1','','many'])
def test_any_number_of_threads_is_understood(file, monkeypatch, n):
    "OpenMP takes a list, a number for each level"
    monkeypatch.setenv('OMP_NUM_THREADS', n)
    assert OnnxNet(file).session

# --- what is refused

def test_any_changed_byte_is_noticed(file):
    raw = file.read_bytes()
    for i in range(0, len(raw), 11):
        file.write_bytes(raw[:i]+bytes([raw[i]^1])+raw[i+1:])
        with pytest.raises(ModelError): read_onnx(file)

def test_a_number_of_the_net_that_was_changed(file):
    raw = file.read_bytes()
    white = np.float32(255).tobytes()
    assert raw.count(white)==1
    file.write_bytes(raw.replace(white, np.float32(200).tobytes()))
    refused(file, 'digest differs', 'export it again')

@pytest.mark.parametrize('n', [0, 10, 300, -1, -SEAL])
def test_a_file_that_breaks_off(file, n):
    file.write_bytes(file.read_bytes()[:n])
    with pytest.raises(ModelError): read_onnx(file)

def test_what_is_none(tmp_path):
    (tmp_path/'x.onnx').write_bytes(b'%PDF-1.7 and more')
    refused(tmp_path/'x.onnx', 'no ONNX file')
    refused(tmp_path, 'is no file'); refused(tmp_path/'gone.onnx', 'is no file')

def test_of_another_program(tmp_path):
    onnx.save(mean_model(), tmp_path/'x.onnx')
    refused(tmp_path/'x.onnx', 'says nothing of classes')

def outward(t):
    t.ClearField('raw_data')
    t.data_location = TensorProto.EXTERNAL
    t.external_data.add(key='location', value='../../../etc/passwd')
    return t

def test_numbers_in_other_files(tmp_path):
    "In the graph, in an attribute, in a graph inside, in a function: sealed again, as a forger would"
    a = mean_model()
    outward(a.graph.initializer[2])
    b = mean_model()
    b.graph.node.append(helper.make_node('Constant', [], ['c'], value=outward(numpy_helper.from_array(np.ones(3, np.float32), 'deep'))))
    inner = helper.make_graph([], 'inner', [], [], [outward(numpy_helper.from_array(np.ones(3, np.float32), 'inner'))])
    c = mean_model()
    c.graph.node.append(helper.make_node('If', ['yes'], ['c'], then_branch=inner, else_branch=inner))
    d = mean_model()
    d.functions.append(helper.make_function('x', 'f', [], ['c'], [b.graph.node[-1]], [helper.make_opsetid('', 20)]))
    for m,name in ((a,'white'), (b,'deep'), (c,'inner'), (d,'deep')):
        write_onnx(tmp_path/'x.onnx', m, TOLD)
        refused(tmp_path/'x.onnx', 'other files', name)
    assert list(outside_tensors(mean_model()))==[]

@pytest.mark.parametrize('bad', [dict(kind='oracle'), dict(recipe='crop,cut'), dict(size=10**9), dict(size='16'), dict(image='x-ray'),
                                 dict(columns=None), dict(columns=[1,2]), dict(sha256=None)], ids=str)
def test_notes_that_cannot_be(tmp_path, bad):
    refused(write_onnx(tmp_path/'x.onnx', mean_model(), TOLD|bad), 'notes', 'cannot be used')

def test_a_later_format(tmp_path):
    m = mean_model()
    for k,v in dict(library='fundus_fastai', format=99).items(): m.metadata_props.add(key=k, value=json.dumps(v))
    (tmp_path/'x.onnx').write_bytes(sealed(m.SerializeToString()))
    refused(tmp_path/'x.onnx', 'format 99', 'pip install -U')

def test_what_onnxruntime_cannot_run(tmp_path):
    m = mean_model()
    m.graph.node[0].op_type = 'Fortune'
    with pytest.raises(ModelError, match='cannot be run by onnxruntime.* install -U onnxruntime, or export'): OnnxNet(write_onnx(tmp_path/'x.onnx', m, TOLD))

def test_nobody_is_told_that_it_ran(file, tmp_path):
    "In a home of its own, with nothing set by whoever calls: a report would leave the machine's number"
    home = tmp_path/'home'
    home.mkdir()
    Image.new('RGB', (16,16)).save(tmp_path/'eye.png')
    env = {k:v for k,v in os.environ.items() if not ('TELEMETRY' in k or k.startswith('XDG_'))} | dict(HOME=str(home), FUNDUS_HOME=str(tmp_path/'f'))
    said = subprocess.run([sys.executable, '-m', 'fundus_fastai.cli', 'predict', str(file), str(tmp_path/'eye.png')], env=env, capture_output=True, text=True)
    assert said.returncode==0 and 'eye.png' in said.stdout, said.stderr
    assert [o for o in home.rglob('*') if o.is_file()]==[]

# --- what it says

def test_what_is_written_names_no_place(tmp_path):
    m = mean_model()
    m.graph.node[0].doc_string = 'File "/home/ada/net.py", line 3'
    m.graph.node[1].metadata_props.add(key='stack', value='/home/ada/net.py')
    m.metadata_props.add(key='by', value='/home/ada')
    raw = write_onnx(tmp_path/'x.onnx', m, TOLD).read_bytes()
    assert b'/home' not in raw and read_onnx(tmp_path/'x.onnx')[1]['columns']==['p_a','p_b']

@pytest.mark.parametrize('image', ['oct','fundus'])
def test_a_scan_is_seen_in_gray_and_a_photograph_in_color(tmp_path, image):
    net = OnnxNet(write_onnx(tmp_path/'x.onnx', mean_model(), TOLD|dict(image=image, recipe='')))
    im = np.random.default_rng(0).integers(0, 255, (16,16,3), np.uint8)
    want = np.asarray(Image.fromarray(im).convert('L' if image=='oct' else 'RGB').convert('RGB'))
    assert np.array_equal(net_picture(Eye(im), net.recipe, 16, gray=net.gray), want) and (np.ptp(want, -1)==0).all()==(image=='oct')

def test_rows_files_and_remarks(file, tmp_path):
    d = tmp_path/'eyes'
    d.mkdir()
    eye = np.zeros((90,90,3), np.uint8)
    eye[np.hypot(*np.mgrid[-45:45,-45:45])<40] = (190,90,40)
    Image.fromarray(eye).save(d/'10_left.png')
    Image.new('RGB', (90,90)).save(d/'11_right.png')
    (d/'12_left.png').write_bytes(b'no picture')
    t = predict_onnx(file, [d], bs=1, out=tmp_path/'t.csv')
    assert t.usable.tolist()==[True,False,False] and t.eye.tolist()==['L','R','L'] and t.prediction[0]=='b'
    assert list(pd.read_csv(tmp_path/'t.csv'))==['path','patient','eye','usable','remark','prediction','p_a','p_b','model']
    assert set(t.model)=={'ab'*8} and t.attrs['unread']==1
    with pytest.raises(DataError, match='force'): predict_onnx(file, [d], out=tmp_path/'t.csv')
    with pytest.raises(DataError, match='CPU'): predict_onnx(file, [d], 'cuda')
    with pytest.raises(DataError, match='`bs` is to be at least 1'): predict_onnx(file, [d], bs=0)
