%% @doc Who is measured: a module with hackney's `h2_*' functions and the options it is given, or the Rust client.
-module(bench_subject).

-export([parse/1, rust/1, label/1, version/1, prepare/1, open/4]).
-export_type([subject/0]).

-type subject() :: #{label := string(), module := module(), options := [{atom(), term()}], version := string()}
                 | #{label := string(), runtime := string()}.

%% @doc Reads `MODULE', `MODULE:[OPTIONS]' or `LABEL=MODULE:[OPTIONS]'. A single option may stand without brackets.
-spec parse(string()) -> {ok, subject()} | {error, unicode:chardata()}.
parse(Text) ->
    case re:run(Text, "^(?:([^=:\\[{]+)=)?([a-z][A-Za-z0-9_@]*)(?::([\\[{].*))?$",
                [unicode, dotall, {capture, all_but_first, list}]) of
        {match, [Label, Module]} -> subject(Label, Module, "[]", Text);
        {match, [Label, Module, Options]} -> subject(Label, Module, Options, Text);
        nomatch -> {error, "neither MODULE nor MODULE:[OPTIONS]"}
    end.

subject(Label, Module, OptionText, Text) ->
    case options(OptionText) of
        {ok, Options} ->
            Name = case Label of
                       "" -> Text;
                       _ -> Label
                   end,
            {ok, #{label => Name, module => list_to_atom(Module), options => Options, version => "?"}};
        error ->
            {error, "the options are not a list of {Name, Value}"}
    end.

options(Text) ->
    maybe_options(erl_scan:string(Text ++ ".")).

maybe_options({ok, Tokens, _}) ->
    case erl_parse:parse_term(Tokens) of
        {ok, Option} when is_tuple(Option) -> pairs([Option]);
        {ok, Options} when is_list(Options) -> pairs(Options);
        _ -> error
    end;
maybe_options(_) ->
    error.

pairs(Options) ->
    case lists:all(fun({Name, _}) -> is_atom(Name); (_) -> false end, Options) of
        true -> {ok, Options};
        false -> error
    end.

%% @doc The Rust client on one of its runtimes.
-spec rust(string()) -> {ok, subject()} | {error, string()}.
rust(Runtime) ->
    case lists:member(Runtime, ["mt2", "mt2s", "ct"]) of
        true -> {ok, #{label => "rust " ++ Runtime, runtime => Runtime}};
        false -> {error, "runtimes are mt2, mt2s and ct"}
    end.

%% @doc The subject's name in tables.
-spec label(subject()) -> string().
label(#{label := Label}) -> Label.

%% @doc Which version of it runs, once {@link prepare/1} has found it.
-spec version(subject()) -> string().
version(#{version := Version}) -> Version;
version(#{runtime := _}) -> "h2 crate".

%% @doc Loads and starts the subject, or says why it cannot take part.
-spec prepare(subject()) -> {ok, subject()} | {left_out, unicode:chardata()}.
prepare(#{runtime := _} = Subject) ->
    {ok, Subject};
prepare(#{module := Module} = Subject) ->
    case code:ensure_loaded(Module) of
        {module, Module} ->
            case erlang:function_exported(Module, h2_open, 4) of
                true -> started(Subject, application:ensure_all_started(Module));
                false -> {left_out, "the module has no h2_open/4"}
            end;
        {error, Reason} ->
            {left_out, io_lib:format("module ~ts: ~0tp (is it in the code path, for instance by ERL_LIBS?)",
                                     [Module, Reason])}
    end.

started(#{module := Module, options := Own} = Subject, {ok, _}) ->
    {ok, Version} = application:get_key(Module, vsn),
    {ok, Subject#{version := Version, options := merge(Own, defaults(Module))}};
started(#{module := Module} = Subject, {error, {Module, {_, Name}}}) when is_list(Name) ->
    {ok, Subject}; % a module that belongs to no application
started(_Subject, {error, Reason}) ->
    {left_out, io_lib:format("it does not start: ~0tp", [Reason])}.

%% What lets a subject show what it can. Options on the command line have precedence.
defaults(hackney) ->
    %% With Nagle's algorithm every small message waits for an ACK. With the buffer's default bound, a passive
    %% download that comes faster than it is read is an error.
    [{connect_options, [{nodelay, true}]}, {max_recv_buffer, infinity}];
defaults(hackney_native) ->
    %% A sender that finds the buffer full waits for room instead of asking again.
    [{send_timeout, infinity}];
defaults(_) ->
    [].

%% @doc Opens a stream to `Path' of the target, with the scenario's options on top of the subject's.
-spec open(subject(), bench_scenario:target(), string(), [{atom(), term()}]) -> {ok, pid()} | {error, term()}.
open(#{module := Module, options := Options}, #{url := Url} = Target, Path, Scenario) ->
    Module:h2_open(post, unicode:characters_to_binary(Url ++ Path), [],
                   merge(Scenario, merge(Options, transport(Target)))).

transport(#{url := "http:" ++ _}) -> [{h2c, true}];
transport(#{cacertfile := undefined}) -> [];
transport(#{cacertfile := File}) -> [{ssl_options, [{cacertfile, File}]}].

%% The union, where a name stands in both with the first one's value; lists of options are united in turn.
merge(First, Second) ->
    [{Name, with(Name, Value, Second)} || {Name, Value} <- First]
        ++ [Option || {Name, _} = Option <- Second, not lists:keymember(Name, 1, First)].

with(ssl_options, Value, Second) -> merge(Value, proplists:get_value(ssl_options, Second, []));
with(_Name, Value, _Second) -> Value.
