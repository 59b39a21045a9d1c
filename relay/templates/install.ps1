# Installs Converge's programs from the relay that wrote this script:
#
#     irm {{ script }} | iex
#     & ([scriptblock]::Create((irm {{ script }}))) agent
#
# Writes the programs into $HOME\.local\bin, or $env:CONVERGE_INSTALL_DIR, and nothing else.
& {
    param([string[]]$Wanted)
    $ErrorActionPreference = 'Stop'
    $ProgressPreference = 'SilentlyContinue'
    $base = {{ base }}
    # What this relay has, with the checksums of the moment at which it wrote this.
    $checksums = @{
{%- for file in files %}
        '{{ file.name }}' = '{{ file.sha256 }}'
{%- endfor %}
    }
    $names = @{ client = 'converge'; agent = 'converge-agent'; relay = 'converge-relay' }
    if (-not $Wanted) { $Wanted = @('client') }
    $machine = if ($env:PROCESSOR_ARCHITECTURE -eq 'ARM64') { 'aarch64' } else { 'x86_64' }
    $directory = if ($env:CONVERGE_INSTALL_DIR) { $env:CONVERGE_INSTALL_DIR } else { Join-Path $HOME '.local\bin' }
    foreach ($word in $Wanted) {
        if (-not $names.ContainsKey($word)) { throw "install.ps1: what is '$word'? It is client, agent or relay" }
        $file = "$($names[$word])-windows-$machine.exe"
        if (-not $checksums.ContainsKey($file)) {
            throw "install.ps1: this relay has no $file; ask who runs it, or build it from source"
        }
        New-Item -ItemType Directory -Force $directory | Out-Null
        $program = Join-Path $directory "$($names[$word]).exe"
        $part = "$program.part"
        try {
            Invoke-WebRequest -UseBasicParsing -Uri "$($base)downloads/$file" -OutFile $part
            $found = (Get-FileHash -Algorithm SHA256 $part).Hash.ToLowerInvariant()
            if ($found -ne $checksums[$file]) {
                throw "install.ps1: $file has the checksum $found and not $($checksums[$file]), so it was not installed"
            }
            Move-Item -Force $part $program
        } finally {
            if (Test-Path $part) { Remove-Item $part }
        }
        Write-Host "installed $program"
    }
    if (($env:PATH -split ';') -notcontains $directory) {
        Write-Host "$directory is not on your PATH. For this window: `$env:PATH = '$directory;' + `$env:PATH"
    }
} -Wanted $args
