"Cards, and phantoms by name"
import pytest
from fundus_fastai.core import DataError, EyeError
from made import touch
from fundus_fastai.data.catalog import cards, catalog, data_terms, get_card, guess_card, make_phantom, read_dataset

FUNDUS = 'vietai2020 eyepacs aptos2019 odir5k messidor2 idrid rfmid diaretdb1 papila ukb'.split()

def test_cards():
    assert {'kermany2018','folder','csv'} <= set(catalog().index)
    assert 'paultimothymooney/kermany2018' in str(get_card('kermany2018'))
    assert '<table>' in get_card('kermany2018')._repr_html_()
    with pytest.raises(EyeError, match='did you mean kermany2018'): get_card('kermany208')

def test_cards_are_complete():
    assert {'kermany2018','folder','csv',*FUNDUS}==set(cards)
    for o in cards.values():
        assert o.parser and o.patient and (o.license or o.kind=='local') and bool(o.kaggle)==(o.kind!='local')
        if not o.kaggle: continue
        assert o.url.endswith(o.kaggle) and ('/c/' in o.url)==(o.kind=='competition') and o.gb and o.gb_unpacked
    assert {o for o in cards if cards[o].kind=='competition'}=={'vietai2020','eyepacs','aptos2019'}
    assert max(map(len, catalog().reset_index().to_string(index=False).splitlines()))<=120

@pytest.mark.parametrize('data,title', [({}, 'PHANTOMS'),(dict(data='kermany2018'), 'PHANTOMS in the layout of kermany2018')])
def test_phantoms_of_no_set_have_no_layout(data, title):
    "A card of frames in Python said: PHANTOMS in the layout of None"
    assert data_terms(dict(source='phantom', **data))['title']==title

def test_a_plain_folder_is_still_a_folder(tmp_path):
    for o in ('dry/a.png','wet/b.png'): (tmp_path/o).parent.mkdir(exist_ok=True); (tmp_path/o).touch()
    (tmp_path/'train.csv').write_text('file,grade\na.png,1\n')
    assert guess_card(tmp_path)=='folder'

def test_a_clinic_s_own_is_not_taken_for_a_public_set(tmp_path):
    "A folder called OCT2017 was Kermany's, wherever it stood, and images went; a train.csv was APTOS's, and its patients went"
    for top,name in dict(own='{}_OD.png', alike='DME-1-{}.png').items():
        touch(tmp_path/top, *(f'OCT{y}/{c}/{name.format(k)}' for y in (2016,2017,2018) for c in ('Normal','DME','AMD') for k in (11,12)))
    touch(tmp_path, *(f'his/a/b/OCT2017 /train/{c}/{c}-1-1.jpeg' for c in ('CNV','DME','DRUSEN','NORMAL')), 'his/a/b/OCT2017 /maps/CNV-1-1.png')
    assert [guess_card(tmp_path/o) for o in ('own','own/OCT2017','alike','his')]==['folder']*3+['kermany2018']
    assert read_dataset('folder', tmp_path/'own/OCT2017').label.value_counts().to_dict()=={'Normal':2, 'DME':2, 'AMD':2}
    for head,card in (('id_code,diagnosis','aptos2019'), ('id_code,patient_id,diagnosis','folder'), ('id_code;MRN;diagnosis','folder')):
        (touch(tmp_path/'t', 'train.csv')/'train.csv').write_text(head+'\n')
        assert guess_card(tmp_path/'t')==card

def test_make_phantom(nobody):
    d = make_phantom('kermany2018', nobody/'p', patients=8, seed=2)
    df = read_dataset('kermany2018', d)
    assert df.attrs['source']=='phantom' and df.patient.nunique()==8 and df.patient.astype(int).min()==20_001
    assert make_phantom('kermany2018', d, patients=8, seed=2)==d
    with pytest.raises(DataError, match='no phantoms of csv'): make_phantom('csv', nobody/'q')

def test_phantom_is_told_through_a_csv(nobody):
    d = make_phantom('kermany2018', nobody/'p', patients=4)
    df = read_dataset('kermany2018', d)
    df.to_csv(nobody/'mine.csv', index=False)
    assert read_dataset('csv', nobody/'mine.csv').attrs['source']=='phantom'
