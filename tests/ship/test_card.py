"What may leave: made from a list, searched for names, under terms that somebody has accepted"
import json, shutil
from pathlib import Path
import pandas as pd, pytest, torch
from safetensors.torch import load_file, save_file
from fundus_fastai.core import DataError, ModelError, read_json, write_json
from made import mean_model
from fundus_fastai.data.catalog import cards
from fundus_fastai.ship.card import agreed_terms, check_nobody, names_in_run, pack_card, people_in, public_config

HERE = Path(__file__).parent.parent/'run/old_run'

@pytest.fixture
def run(tmp_path): return Path(shutil.copytree(HERE/'run', tmp_path/'run'))

def change(run, **new): write_json(run/'config.json', read_json(run/'config.json')|new)

def reseal(run):
    "Let config.json know the weights as they are now"
    from fundus_fastai.core import sha256
    change(run, sha256=sha256(run/'model.safetensors'))

def test_settings_that_are_not_on_the_list_stay(run):
    cfg = read_json(run/'config.json')
    secret = dict(provenance=dict(table='anna_miller.csv', command='fundus train'), label='anna_miller', split_hash='x', anna_miller=1, weights='anna_miller.pth',
                  data='anna_miller.csv', read=dict(images=3, patients=2, why='anna_miller.png cannot be read'), training=dict(cfg['training'], weights='anna_miller.pth', data='anna_miller'))
    told = public_config(cfg|secret)
    assert 'anna_miller' not in json.dumps(told) and told['training']['lr']=='.01' and told['read']==dict(images=3, patients=2)
    why = dict(images=3, why='1 no usable answer to this question, 2 cannot be read')
    assert public_config(cfg|dict(read=why))['read']==why, "our own words may be told"

def test_what_everybody_knows_is_told(run):
    "The names of weights that all have, and of a data set that all can fetch"
    cfg = read_json(run/'config.json')
    for weights in ('imagenet','none',None): assert public_config(cfg|dict(weights=weights, data='odir5k'))['weights']==weights
    assert public_config(cfg|dict(data='odir5k'))['data']=='odir5k' and public_config(cfg|dict(weights='x.pth'))['weights']=='a file'

def test_the_names_that_are_looked_for(tmp_path):
    "Patients, paths and files of all tables that are there, by hand; a number of five digits or a word of three stands in any text"
    pd.DataFrame(dict(path=['d/Anna-1961.png','d/left.png'], patient=['Anna','12345'])).to_csv(tmp_path/'split.csv', index=False)
    pd.DataFrame(dict(path=['7.png','8.png'], patient=['123456',''])).to_csv(tmp_path/'predictions.csv', index=False)
    assert names_in_run(tmp_path)=={'d/Anna-1961.png','Anna-1961.png','Anna-1961','d/left.png','left.png','Anna','7.png','8.png','123456'}
    (tmp_path/'out').mkdir()
    for text in ('as Anna said','of 123456, twice'):
        (tmp_path/'out/README.md').write_text(text)
        with pytest.raises(DataError, match='README.md names 1 of the run'): check_nobody(tmp_path/'out', names_in_run(tmp_path))

def test_a_note_on_a_patient_is_found(run, tmp_path):
    "The list lets notes pass; the search does not"
    t = pd.read_csv(run/'split.csv', dtype=str)
    change(run, note=f'Look at {Path(t.path[0]).stem}, it is odd.')
    cfg = pack_card(run, tmp_path/'p')
    with pytest.raises(DataError, match='README.md names .* of the run'): check_nobody(tmp_path/'p', names_in_run(run), cfg['classes'])
    for name in (t.path[0], Path(t.path[0]).name):
        (tmp_path/'p/README.md').write_text(f'as {name}.')
        with pytest.raises(DataError, match='names .* of the run'): check_nobody(tmp_path/'p', names_in_run(run))

def test_tensors_and_notes_that_hide_in_the_weights(run, tmp_path):
    f = run/'model.safetensors'
    w = load_file(f)
    save_file(w, f, metadata=dict(patients='anna miller')); reseal(run)
    with pytest.raises(ModelError, match='notes that this program has not written .patients'): pack_card(run, tmp_path/'p')
    save_file(w|dict(anna_miller=w[next(iter(w))].clone()), f); reseal(run)
    with pytest.raises(ModelError): pack_card(run, tmp_path/'p')

def test_a_name_in_the_notes_of_weights_is_found(tmp_path):
    (tmp_path/'eye.png').write_bytes(b'\xff Miller') # the bytes of a picture are no words
    save_file(dict(w=torch.zeros(2)), tmp_path/'model.safetensors')
    check_nobody(tmp_path, {'Miller'})
    for names,note in (('w','{"note":"of Miller"}'), ('of Miller','{}')):
        save_file({names:torch.zeros(2)}, tmp_path/'model.safetensors', metadata=dict(fundus=note))
        with pytest.raises(DataError, match='model.safetensors names 1 of'): check_nobody(tmp_path, {'Miller'})

WHERE = dict(graph=lambda m: m.graph, producer=lambda m: (m,'producer_name'), domain=lambda m: (m,'domain'), model=lambda m: (m,'doc_string'), about=lambda m: (m.graph,'doc_string'),
             node=lambda m: m.graph.node[0], number=lambda m: m.graph.initializer[0], into=lambda m: m.graph.input[0], out=lambda m: m.graph.output[0],
             said=lambda m: (m.graph.node[0],'doc_string'), note=lambda m: (m.metadata_props.add(key='note'),'value'))

@pytest.mark.parametrize('where', WHERE)
def test_a_name_in_a_graph_is_found(tmp_path, where):
    m = mean_model()
    at = WHERE[where](m)
    (tmp_path/'net.onnx').write_bytes(m.SerializeToString())
    check_nobody(tmp_path, {'Miller'})
    setattr(*(at if isinstance(at, tuple) else (at,'name')), 'of Miller')
    (tmp_path/'net.onnx').write_bytes(m.SerializeToString())
    with pytest.raises(DataError, match='net.onnx names 1 of'): check_nobody(tmp_path, {'Miller'})

def test_terms_in_words_of_ones_own(run):
    cfg = read_json(run/'config.json')|dict(data='mine.csv', source='local')
    assert public_config(cfg, 'By letter of May.')['terms']=='By letter of May.' and 'terms' not in public_config(cfg)
    assert 'By letter of May.' in agreed_terms(cfg, True, 'By letter of May.')
    with pytest.raises(DataError, match='terms=TEXT'): agreed_terms(cfg, True)

def test_words_of_their_own():
    names = {'p1','0042','anna','a.b/c.png','(x)'}
    assert people_in('anna-lena p10 10042 a.b/c.pngx', names)==[] and people_in('Anna anna, p1; 0042', names)==['0042','anna','p1'] and people_in('see (x)', names)==['(x)']
    assert people_in('anna', names, but=['anna'])==[]

@pytest.mark.parametrize('name', [o for o in cards if o not in ('folder','csv')])
def test_each_data_set_has_terms_to_accept(name):
    cfg = dict(data=name, source='kaggle')
    if cards[name].license[:1]=='?':
        with pytest.raises(DataError, match='terms=TEXT'): agreed_terms(cfg, True)
        return
    assert cards[name].license in agreed_terms(cfg, True)
    with pytest.raises(DataError, match='accept_terms=True'): agreed_terms(cfg)
